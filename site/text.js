// What is done with a text, and said of it, without a model: as in text.py, text_statistics.py and widgets/live_text.py.

const alike = (from, to) => [...from].map((character, i) => [character, to[i]]);
const FORMS = new Map([
    ...alike("‘’‛′´‹›‚‐‒–−⁄×ØøŁłĐđÐðı", "''''''',----/xOoLlDdDdi"),
    ...alike("“”„‟«»", '""""""'),
    ["—", "--"], ["―", "--"], ["Æ", "AE"], ["æ", "ae"], ["Œ", "OE"], ["œ", "oe"], ["ß", "ss"], ["Þ", "Th"], ["þ", "th"],
    ["\ufeff", ""], ["\u200b", ""], ["\u00ad", ""],
]);

const translated = text => [...text].map(character => FORMS.get(character) ?? character).join("");

/** The text in a vocabulary's characters: each other one in its ASCII form, or left out if it has none there. */
export function respell(text, vocabulary) {
    const form = character => translated(translated(character).normalize("NFKD")).replace(/\p{Mn}/gu, "");
    return [...text].map(character =>
        vocabulary.includes(character) ? character : [...form(character)].filter(c => vocabulary.includes(c)).join(""),
    ).join("");
}

/** The share of a text's whole words, in lower case, that are among the known ones, a Set; NaN where there is none. */
export function shareKnown(text, known) {
    const words = text.replace(/\S+$/, "").toLowerCase().match(/[a-z]+(?:'[a-z]+)*/g) ?? [];
    return words.filter(word => known.has(word)).length / words.length;
}

/** The entropy of softmax(logits / temperature), in nats; 0 at a temperature of 0. */
export function entropy(logits, temperature) {
    if (!temperature) return 0;
    const most = Math.max(...logits);
    let total = 0, sum = 0;
    for (const logit of logits) {
        const scaled = (logit - most) / temperature, weight = Math.exp(scaled);
        total += weight;
        sum += weight * scaled;
    }
    return Math.log(total) - sum / total;
}

/** The text in runs [run, changed], by whether characters differ from those at their places before; what is new is not. */
export function changes(text, before) {
    const runs = [];
    for (let i = 0; i < text.length; i++) {
        const changed = i < before.length && text[i] !== before[i];
        if (runs.at(-1)?.[1] === changed) runs.at(-1)[0] += text[i];
        else runs.push([text[i], changed]);
    }
    return runs;
}
