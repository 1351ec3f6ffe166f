// What listening.py's Player does in the browser: a piano roll that sounds, and a line that goes along it.

const HARMONICS = 8, SOFTER = 0.6, ATTACK = 0.02, RELEASE = 0.1, DECAY = 3; // as in music.sound; times in seconds
const LOUDNESS = 0.12; // of a note, where 1 is the most that all together may have
const HEARD = "vrnn-player-heard"; // is told to all players of the page when one begins

// Lets an audio context sound notes [pitch, start, length], in quarters, from a moment of its clock on.
export function schedule(context, notes, tempo, begin) {
    const quarter = 60 / tempo;
    const sines = Float32Array.from({ length: HARMONICS + 1 }, (_, k) => (k ? SOFTER ** (k - 1) : 0));
    const wave = context.createPeriodicWave(new Float32Array(HARMONICS + 1), sines);
    for (const [pitch, start, length] of notes) {
        const from = begin + start * quarter, to = from + length * quarter + RELEASE;
        const oscillator = context.createOscillator(), decay = context.createGain(), fade = context.createGain();
        oscillator.setPeriodicWave(wave);
        oscillator.frequency.value = 440 * 2 ** ((pitch - 69) / 12);
        decay.gain.setValueAtTime(LOUDNESS, from);
        decay.gain.setTargetAtTime(0, from, DECAY);
        fade.gain.setValueAtTime(0, from);
        fade.gain.linearRampToValueAtTime(1, from + ATTACK);
        fade.gain.setValueAtTime(1, to - RELEASE);
        fade.gain.linearRampToValueAtTime(0, to);
        oscillator.connect(decay).connect(fade).connect(context.destination);
        oscillator.start(from);
        oscillator.stop(to);
    }
}

function element(parent, name, kind = "", style = {}) {
    const made = parent.appendChild(document.createElement(name));
    made.className = kind;
    Object.assign(made.style, style);
    return made;
}

function render({ model, el }) {
    const stage = element(el, "div", "", { position: "relative", width: "fit-content", background: "white" });
    const image = element(stage, "img", "", { display: "block", maxWidth: "100%" });
    image.alt = `piano roll ${model.get("label")}`;
    const head = element(stage, "div", "roll-head", { position: "absolute", width: "2px", background: "#222222" });
    const row = element(el, "div", "", { display: "flex", gap: "1em", alignItems: "center" });
    const button = element(row, "button", "jupyter-button widget-button");
    const link = element(row, "a", "", // as a link is in a page; a notebook's looks make it plain text
        { color: "var(--jp-content-link-color, #0072B2)", textDecoration: "underline" });
    link.textContent = "take it away (MIDI)";
    link.download = `${model.get("label") || "music"}.mid`;

    let context = null, begin = 0;
    const stop = () => {
        context?.close();
        context = null;
        button.textContent = "Play";
        head.style.display = "none";
    };
    const follow = () => {
        if (!context) return;
        const share = (context.currentTime - begin) * model.get("tempo") / 60 / model.get("quarters");
        if (share > 1) return stop();
        const [left, top, width, height] = model.get("box");
        Object.assign(head.style, { display: "block", left: `${100 * (left + width * Math.max(share, 0))}%`,
            top: `${100 * top}%`, height: `${100 * height}%` });
        requestAnimationFrame(follow);
    };
    const play = () => {
        stop();
        document.dispatchEvent(new CustomEvent(HEARD));
        context = new AudioContext();
        begin = context.currentTime + 0.1;
        schedule(context, model.get("notes"), model.get("tempo"), begin);
        button.textContent = "Stop";
        follow();
    };
    button.onclick = () => (context ? stop() : play());
    document.addEventListener(HEARD, stop);

    const renewed = (holder, attribute, name, type) => {
        URL.revokeObjectURL(holder[attribute]);
        holder[attribute] = URL.createObjectURL(new Blob([model.get(name)], { type }));
    };
    const picture = () => renewed(image, "src", "picture", "image/png");
    const midi = () => renewed(link, "href", "midi", "audio/midi");
    const another = () => context && play(); // who listens goes on with the new piece
    const shown = [["picture", picture], ["midi", midi], ["notes", another]];
    for (const [name, show] of shown) model.on(`change:${name}`, show);
    for (const show of [picture, midi, stop]) show();
    return () => {
        for (const [name, show] of shown) model.off(`change:${name}`, show);
        document.removeEventListener(HEARD, stop);
        stop();
        for (const address of [image.src, link.href]) URL.revokeObjectURL(address);
    };
}

export default { render };
