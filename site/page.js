// What the pages that move have in common.

export const $ = name => document.getElementById(name);

export const frame = () => new Promise(requestAnimationFrame);

/** Shows what moves in the picture's place, and calls start: now, and whenever a control is moved. */
export function follow(start) {
    const move = () => {
        for (const output of document.querySelectorAll("output")) output.value = $(output.htmlFor.value).value;
        start();
    };
    $("controls").addEventListener("input", move);
    $("controls").addEventListener("submit", event => event.preventDefault());
    $("picture").hidden = true;
    $("live").hidden = false;
    move();
}
