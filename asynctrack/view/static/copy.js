// Buttons that copy. What is copied is what was logged, and what of it cannot be seen is said.
import { html, useEffect, useState } from "./lib.js";
import { number } from "./format.js";
import { hidden } from "./text.js";

const SHOWN = 2_500;

export function useCopy() {
  const [note, setNote] = useState("");
  useEffect(() => {
    if (!note) return undefined;
    const timer = setTimeout(() => setNote(""), SHOWN);
    return () => clearTimeout(timer);
  }, [note]);
  const copy = async (get, failed = "cannot be copied here") => {
    try {
      const text = await get();
      await navigator.clipboard.writeText(text);
      const unseen = hidden(text);
      setNote(unseen ? `copied, with ${number(unseen)} ${unseen === 1 ? "character" : "characters"} that cannot be seen` : "copied");
    } catch {
      setNote(failed);
    }
  };
  return [note, copy];
}

// `get` returns the text, or a promise of it.
export function Copy({ what, get, text = null }) {
  const [note, copy] = useCopy();
  return html`<span class="copy"><button class=${text ? "button" : "icon"} aria-label=${text ? null : `copy ${what}`} title=${`copy ${what}`} onClick=${(event) => {
    event.stopPropagation();
    copy(get);
  }}>${text ?? html`<svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true"><path d="M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z" /></svg>`}</button><span class="quiet" role="status">${note}</span></span>`;
}
