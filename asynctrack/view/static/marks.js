// What was searched for is marked in what is shown. No element is added for it: the browser paints
// ranges of the text.
import { useEffect } from "./lib.js";

const MOST = 2000;
const PLACES = "main :is(.logged, .preview, .name bdi, .found, .wf-name bdi, .bad bdi)";

// The same words as the server searches for.
export function wordsOf(text) {
  return [...(text ?? "").matchAll(/"([^"]*)"|(\S+)/g)].map((found) => (found[1] ?? found[2]).toLowerCase()).filter(Boolean);
}

function rangesOf(words) {
  const found = [];
  for (const place of document.querySelectorAll(PLACES)) {
    const walker = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node && found.length < MOST; node = walker.nextNode()) {
      const text = node.data.toLowerCase();
      if (text.length !== node.data.length) continue; // a letter that is longer in lower case
      for (const word of words) {
        for (let at = text.indexOf(word); at >= 0 && found.length < MOST; at = text.indexOf(word, at + word.length)) {
          const range = new Range();
          range.setStart(node, at);
          range.setEnd(node, at + word.length);
          found.push(range);
        }
      }
    }
  }
  return found;
}

export function useMarks(text) {
  useEffect(() => {
    const words = wordsOf(text);
    if (!globalThis.CSS?.highlights || !words.length) return undefined;
    let frame = null;
    const mark = () => {
      frame = null;
      CSS.highlights.set("found", new Highlight(...rangesOf(words)));
    };
    const changed = () => (frame ??= requestAnimationFrame(mark));
    const observer = new MutationObserver(changed);
    observer.observe(document.querySelector("main"), { subtree: true, childList: true, characterData: true });
    changed();
    return () => {
      observer.disconnect();
      cancelAnimationFrame(frame);
      CSS.highlights.delete("found");
    };
  }, [text]);
}
