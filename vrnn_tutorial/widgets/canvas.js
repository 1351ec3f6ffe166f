// What canvas.py's widgets do in the browser. Pointer events are those of a mouse, a pen or a finger alike.

const share = number => Math.round(1e4 * Math.min(1, Math.max(0, number))) / 1e4;

function element(parent, name, kind = "", style = {}) {
    const made = parent.appendChild(document.createElement(name));
    made.className = kind;
    Object.assign(made.style, style);
    return made;
}

// A field takes part in drawing or pointing: down and move get shares of its width and height; show shows the value.

function drawing(model, field) {
    const sheet = element(field, "div", "", { position: "absolute", inset: "0", pointerEvents: "none" });
    let strokes = [];
    return {
        down(x, y) {
            strokes = [...model.get("value"), []];
            this.move(x, y);
        },
        move(x, y) {
            const stroke = strokes.at(-1), last = stroke.at(-1);
            if (last && last[0] === x && last[1] === y) return;
            stroke.push([x, y]);
            model.set("value", [...strokes.slice(0, -1), [...stroke]]);
        },
        show() {
            const lines = model.get("value").map(stroke => `<polyline points="${[...stroke, stroke.at(-1)].join(" ")}"/>`);
            sheet.innerHTML = `<svg viewBox="0 0 1 1" width="100%" height="100%" fill="none" stroke="black"
                stroke-width=".06" stroke-linecap="round" stroke-linejoin="round">${lines.join("")}</svg>`;
        },
    };
}

function pointing(model, field) {
    const mark = element(field, "div", "pad-mark", {
        position: "absolute", width: "14px", height: "14px", margin: "-9px", border: "2px solid white",
        outline: "2px solid black", background: "#D55E00", borderRadius: "50%", pointerEvents: "none",
    });
    const set = (x, y) => {
        const [left, right, bottom, top] = model.get("limits");
        model.set("value", [left + x * (right - left), top + y * (bottom - top)]);
    };
    const shares = () => {
        const [left, right, bottom, top] = model.get("limits"), [x, y] = model.get("value");
        return [(x - left) / (right - left), (y - top) / (bottom - top)];
    };
    field.tabIndex = 0;
    field.dataset.lmSuppressShortcuts = "true"; // the arrow keys are the pad's, not the notebook's
    field.addEventListener("keydown", event => {
        const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        if (!way) return;
        event.preventDefault();
        const [x, y] = shares();
        set(share(x + way[0] / 50), share(y + way[1] / 50));
        model.save_changes();
    });
    return {
        down: set,
        move: set,
        show() {
            const [x, y] = shares();
            Object.assign(mark.style, { left: `${100 * x}%`, top: `${100 * y}%` });
        },
    };
}

function render({ model, el }) {
    const pen = model.get("limits") === undefined;
    el.style.marginRight = "8px";
    element(el, "div", "widget-label").textContent = model.get("description");
    const stage = element(el, "div", "", { position: "relative", width: "fit-content", background: "white" });
    const image = element(stage, "img", "", { display: "block", maxWidth: "100%" });
    image.draggable = false;
    const field = element(stage, "div", pen ? "canvas-field" : "pad-field",
        { position: "absolute", cursor: "crosshair", touchAction: "none" });
    field.setAttribute("role", "application");
    field.setAttribute("aria-label", model.get("description"));
    const hand = (pen ? drawing : pointing)(model, field);

    const picture = () => {
        URL.revokeObjectURL(image.src);
        const bytes = model.get("picture");
        image.style.display = bytes.byteLength ? "block" : "none";
        if (bytes.byteLength) image.src = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    };
    const frame = () => {
        const [left, top, width, height] = model.get("box").map(part => `${100 * part}%`);
        Object.assign(field.style, { left, top, width, height });
    };
    if (pen) {
        const side = `${model.get("size")}px`;
        Object.assign(stage.style, { width: side, height: side, border: "1px solid #888" });
        Object.assign(image.style, { width: "100%", height: "100%" });
        const button = element(el, "button", "jupyter-button widget-button", { margin: "4px 0" });
        button.textContent = "Clear";
        button.onclick = () => {
            model.set("value", []);
            model.save_changes();
        };
    }

    let pointer = null;
    const at = event => {
        const { left, top, width, height } = field.getBoundingClientRect();
        return [share((event.clientX - left) / width), share((event.clientY - top) / height)];
    };
    field.onpointerdown = event => {
        if (event.button || pointer !== null) return;
        pointer = event.pointerId;
        field.setPointerCapture(pointer);
        hand.down(...at(event));
        model.save_changes();
    };
    field.onpointermove = event => {
        if (event.pointerId !== pointer) return;
        // Those between two frames, too; over http from another machine, and in some browsers, they are not told.
        for (const each of event.getCoalescedEvents?.() ?? [event]) hand.move(...at(each));
        model.save_changes();
    };
    field.onpointerup = field.onpointercancel = event => {
        if (event.pointerId === pointer) pointer = null;
    };

    const shown = [["value", hand.show], ["picture", picture], ["box", frame], ["limits", hand.show]];
    for (const [name, show] of shown) model.on(`change:${name}`, show);
    for (const show of [picture, frame, hand.show]) show();
    return () => {
        for (const [name, show] of shown) model.off(`change:${name}`, show);
        URL.revokeObjectURL(image.src);
    };
}

export default { render };
