// Random numbers from a seed, the same in every browser. They are not PyTorch's: a seed here gives another text there.

/** Tommy Ettinger's mulberry32, a generator of 32 bits: uniform numbers from 0 to 1, and standard normal ones. */
export function seeded(seed) {
    let state = seed | 0;
    const uniform = () => {
        state = (state + 0x6d2b79f5) | 0;
        let t = Math.imul(state ^ (state >>> 15), state | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
    // Box and Muller. 1 - u is never 0, whose logarithm there is not.
    const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    return { uniform, normals: size => Array.from({ length: size }, normal) };
}
