// The notes of four voices, as in corpora/chorales.py and music.py.

const LOWEST = [57, 53, 48, 36]; // the notes of soprano, alto, tenor and bass that are their code 2
const RESTS = 0, HELD = 1;

/** Notes [pitch, start, length, voice] of codes, of which each step has one for each voice; one voice after the other. */
export function notesOf(steps) {
    return LOWEST.flatMap((lowest, voice) => {
        const notes = [];
        let sounding = null; // a voice that holds what it has not begun rests
        steps.forEach((codes, t) => {
            const code = codes[voice];
            if (code === HELD) {
                if (sounding) sounding[2] += 1;
            } else {
                sounding = code === RESTS ? null : [code - 2 + lowest, t, 1, voice];
                if (sounding) notes.push(sounding);
            }
        });
        return notes;
    });
}

/** The name of a note by its MIDI number; C4 is 60. */
export const nameOf = pitch => `${"C C# D D# E F F# G G# A A# B".split(" ")[pitch % 12]}${Math.floor(pitch / 12) - 1}`;
