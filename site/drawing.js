// Strokes, the steps of a pen along them, and SVG paths, as in drawing.py: a stroke is an array of points [x, y].

export const SIDE = 109; // of KanjiVG's grid, in its units
const TOLERANCE = 1; // how far toGrid may leave the line that was drawn before it rounds

/** To a whole number; from the middle to the even one, as NumPy does. */
function rounded(number) {
    const up = Math.round(number);
    return up - number === 0.5 && up % 2 ? up - 1 : up;
}

/** The strokes in whole numbers, with few points. */
export function toGrid(strokes) {
    return strokes.map(stroke => simplify(stroke).map(point => point.map(rounded))
        .filter(([x, y], i, points) => !i || x !== points[i - 1][0] || y !== points[i - 1][1]));
}

/** Those points that Ramer, Douglas and Peucker keep: between two kept ones the farthest, if it is beyond the tolerance. */
function simplify(points) {
    if (points.length < 3) return points;
    const [x0, y0] = points[0], [x1, y1] = points.at(-1), across = x1 - x0, down = y1 - y0;
    const length = across ** 2 + down ** 2 || 1; // squared, as all that follows
    const squares = points.map(([x, y]) => {
        const along = Math.min(length, Math.max(0, (x - x0) * across + (y - y0) * down));
        return ((x - x0) * length - along * across) ** 2 + ((y - y0) * length - along * down) ** 2;
    });
    const most = Math.max(...squares), farthest = squares.indexOf(most);
    if (most <= (TOLERANCE * length) ** 2) return [points[0], points.at(-1)];
    return [...simplify(points.slice(0, farthest + 1)), ...simplify(points.slice(farthest)).slice(1)];
}

/** Steps [dx, dy, goes on, stroke ends, character ends] along strokes to which more will be added. */
export function toSteps(strokes) {
    let before = [0, 0];
    return strokes.flatMap(stroke => stroke.map(([x, y], i) => {
        const offset = [x - before[0], y - before[1]], ends = i === stroke.length - 1;
        before = [x, y];
        return [...offset, Number(!ends), Number(ends), 0];
    }));
}

/** The strokes along which a pen takes the steps. */
export function toStrokes(steps) {
    const strokes = [];
    let x = 0, y = 0, lifted = true;
    for (const [dx, dy, goesOn] of steps) {
        if (lifted) strokes.push([]);
        strokes.at(-1).push([(x += dx), (y += dy)]);
        lifted = !goesOn;
    }
    return strokes;
}

/** An SVG path of straight lines; a stroke of a single point is a line of no length, which round ends make a dot. */
export function writePath(strokes) {
    const pair = point => point.map(number => Number(number.toFixed(2))).join();
    return strokes.map(points => `M${(points.length > 1 ? points : [...points, ...points]).map(pair).join(" ")}`).join("");
}

/** The strokes of a path that writePath wrote. */
export const readPath = path => path.split("M").slice(1).map(stroke => stroke.split(" ").map(p => p.split(",").map(Number)));

export const isInside = strokes => strokes.flat(2).every(number => 0 <= number && number <= SIDE);
