// Small charts in SVG. What they show is also said in words: in titles, and in tables beside them.
import { html, useLayoutEffect, useRef, useState } from "./lib.js";
import { number, seconds, time, when } from "./format.js";
import { plainly } from "./text.js";

const USUAL = 560;

// The width of an element in pixels: charts are drawn for it, so that their words keep their size.
function useWidth() {
  const element = useRef(null);
  const [width, setWidth] = useState(USUAL);
  useLayoutEffect(() => {
    const measured = () => element.current && setWidth(Math.max(120, Math.round(element.current.getBoundingClientRect().width)));
    measured();
    const observer = new ResizeObserver(measured);
    if (element.current) observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return [element, width];
}

function Chart({ element, width, height, label, class: kind = "", children, ...more }) {
  return html`<svg ref=${element} class=${`chart ${kind}`} width="100%" height=${height + 18} viewBox="0 0 ${width} ${height + 18}" role="img" aria-label=${label} ...${more}>${children}</svg>`;
}

// Marks are [share of the width, label].
function Axis({ marks, height, width }) {
  const most = Math.max(2, Math.floor(width / 70));
  const every = Math.ceil(marks.length / most);
  return html`<g class="axis">${marks.filter((_, n) => n % every === 0).map(([share, label]) => html`<g key=${share}>
    <line x1=${share * width} x2=${share * width} y1="0" y2=${height} />
    <text x=${share * width} y=${height + 13} text-anchor=${share < 0.04 ? "start" : share > 0.96 ? "end" : "middle"}>${label}</text></g>`)}</g>`;
}

// Bars over a range of slots, of which some can be chosen by a click or by dragging.
function Bars({ slots, bars, marks, height = 84, label, onPick }) {
  const [drag, setDrag] = useState(null);
  const [svg, whole] = useWidth();
  const most = Math.max(1, ...bars.map((bar) => bar.count));
  const width = whole / slots;
  const slotAt = (event) => {
    const box = svg.current.getBoundingClientRect();
    return Math.max(0, Math.min(slots - 1, Math.floor(((event.clientX - box.left) / box.width) * slots)));
  };
  const down = (event) => {
    if (!onPick) return;
    svg.current.setPointerCapture(event.pointerId);
    setDrag([slotAt(event), slotAt(event)]);
  };
  const move = (event) => drag && setDrag([drag[0], slotAt(event)]);
  const up = () => {
    if (!drag) return;
    setDrag(null);
    onPick(Math.min(...drag), Math.max(...drag));
  };
  const tall = (count) => (count ? Math.max(1.5, (count / most) * (height - 4)) : 0);
  return html`<${Chart} element=${svg} width=${whole} height=${height} label=${label} class=${onPick ? "pick" : ""}
      onPointerDown=${down} onPointerMove=${move} onPointerUp=${up}>
    <rect class="ground" x="0" y="0" width=${whole} height=${height} />
    <${Axis} marks=${marks} height=${height} width=${whole} />
    ${drag && html`<rect class="brush" x=${Math.min(...drag) * width} y="0" height=${height} width=${(Math.abs(drag[1] - drag[0]) + 1) * width} />`}
    ${bars.map((bar) => html`<g key=${bar.slot}><title>${bar.title}</title>
      <rect class="bar" x=${bar.slot * width + 0.5} width=${Math.max(1, width - 1)} y=${height - tall(bar.count)} height=${tall(bar.count)} rx="1" />
      ${bar.failed > 0 && html`<rect class="bar failed" x=${bar.slot * width + 0.5} width=${Math.max(1, width - 1)} y=${height - tall(bar.failed)} height=${tall(bar.failed)} rx="1" />`}
    </g>`)}
    <line class="floor" x1="0" x2=${whole} y1=${height} y2=${height} />
  <//>`;
}

// The marks of a logarithmic scale from one bin to another.
function tens(first, slots, perTen) {
  const marks = [];
  const steps = slots <= 2 * perTen ? [1, 2, 5] : [1];
  for (let power = Math.floor(first / perTen); power <= Math.ceil((first + slots) / perTen); power += 1) {
    for (const step of steps) {
      const share = ((power + Math.log10(step)) * perTen - first) / slots;
      if (share >= 0 && share <= 1) marks.push([share, seconds(step * 10 ** power)]);
    }
  }
  return marks;
}

// How long traces took, on a logarithmic scale. `bins` as the server counts them.
export function Histogram({ bins, perTen, onPick, label = "Latency histogram" }) {
  if (!bins.length) return html`<p class="quiet empty">no trace has ended</p>`;
  let first = bins[0].bin - 1;
  let last = bins[bins.length - 1].bin + 1;
  while (last - first < perTen) {
    first -= 1;
    last += 1;
  }
  const slots = last - first + 1;
  const bars = bins.map((one) => ({
    slot: one.bin - first,
    count: one.traces,
    failed: one.failed,
    title: `${seconds(one.from)} to ${seconds(one.to)}: ${number(one.traces)} traces${one.failed ? `, ${number(one.failed)} failed` : ""}`,
  }));
  const edge = (slot) => 10 ** ((slot + first) / perTen);
  return html`<${Bars} slots=${slots} bars=${bars} marks=${tens(first, slots, perTen)} label=${label}
    onPick=${onPick && ((from, to) => onPick(edge(from), edge(to + 1)))} />`;
}

function clocks(first, last) {
  const span = last - first;
  if (!(span > 0)) return [];
  const marks = [];
  for (let n = 0; n <= 4; n += 1) {
    const at = first + (span * n) / 4;
    const label = span > 2 * 86400 ? when(at).slice(5, 10) : time(at, span < 600);
    marks.push([n / 4, label]);
  }
  return marks;
}

// How many traces started, over time.
export function Timeline({ buckets, count, first, last, onPick }) {
  if (!buckets.length || first === null) return html`<p class="quiet empty">no trace has started</p>`;
  const length = (last - first) / count || 1e-9;
  const bars = buckets.map((one) => ({
    slot: one.bucket,
    count: one.traces,
    failed: one.failed,
    title: `${when(first + one.bucket * length)}: ${number(one.traces)} traces, ${number(one.failed)} failed, p50 ${seconds(one.p50)}, p95 ${seconds(one.p95)}, ${number(one.tokens)} tokens`,
  }));
  return html`<${Bars} slots=${count} bars=${bars} marks=${clocks(first, last)} label="Traces over time"
    onPick=${onPick && last > first && ((from, to) => onPick(first + from * length, first + (to + 1) * length))} />`;
}

// Lines over points at equal distances; each series is [name, class, values].
export function Lines({ series, titles, format, label, height = 84, onOpen, marks = [] }) {
  const [svg, width] = useWidth();
  const all = series.flatMap(([, , values]) => values).filter((value) => value !== null && value !== undefined);
  if (!all.length) return html`<p class="quiet empty">not known</p>`;
  const most = Math.max(...all) || 1;
  const count = titles.length;
  const x = (n) => (count === 1 ? width / 2 : 6 + (n / (count - 1)) * (width - 12));
  const y = (value) => height - 3 - (value / most) * (height - 18);
  return html`<${Chart} element=${svg} width=${width} height=${height} label=${label}>
    <${Axis} marks=${marks} height=${height} width=${width} />
    <g class="axis"><line x1="0" x2=${width} y1=${y(most)} y2=${y(most)} /><text x="4" y=${y(most) - 3}>${format(most)}</text></g>
    ${series.map(([name, kind, values]) => {
      const known = values.map((value, n) => [n, value]).filter(([, value]) => value !== null && value !== undefined);
      const path = known.map(([n, value], i) => `${i ? "L" : "M"}${x(n).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      return html`<g class=${`series ${kind}`} key=${name}><path d=${path} />
        ${known.length <= 120 && known.map(([n, value]) => html`<circle key=${n} cx=${x(n)} cy=${y(value)} r="3.5" class=${onOpen ? "open" : ""}
          onClick=${onOpen && (() => onOpen(n))}><title>${titles[n]}: ${name} ${format(value)}</title></circle>`)}</g>`;
    })}
    <line class="floor" x1="0" x2=${width} y1=${height} y2=${height} />
  <//>`;
}

// When the tokens of a stream came: a tick each, and the number of tokens so far as a line.
export function Tokens({ stream, length }) {
  const [svg, width] = useWidth();
  const times = stream.times;
  const end = Math.max(length ?? 0, times[times.length - 1]) || 1e-9;
  const height = 60;
  const x = (at) => (at / end) * width;
  const y = (n) => height - 14 - ((n + 1) / times.length) * (height - 20);
  const path = times.map((at, n) => `${n ? "L" : "M"}${x(at).toFixed(1)} ${y(n).toFixed(1)}`).join("");
  const marks = [0, 0.25, 0.5, 0.75, 1].map((share) => [share, seconds(share * end)]);
  return html`<${Chart} element=${svg} width=${width} height=${height} label="Tokens over time" class="tokens">
    <${Axis} marks=${marks} height=${height} width=${width} />
    ${stream.first !== null && html`<rect class="wait" x="0" y=${height - 10} width=${x(stream.first)} height="10"><title>first token after ${seconds(stream.first)}</title></rect>`}
    <path class="ticks" d=${times.map((at) => `M${x(at).toFixed(1)} ${height - 10}v10`).join("")} />
    <path class="line" d=${path} />
  <//>`;
}

// The same histogram of two Runs, one over the other.
export function TwoHistograms({ sides, perTen }) {
  const [svg, whole] = useWidth();
  const all = sides.flatMap((side) => side.bins.map((one) => one.bin));
  if (!all.length) return html`<p class="quiet empty">no trace has ended</p>`;
  const first = Math.min(...all) - 1;
  const last = Math.max(...all) + 1;
  const slots = Math.max(perTen, last - first + 1);
  const width = whole / slots;
  const height = 110;
  const totals = sides.map((side) => side.bins.reduce((sum, one) => sum + one.traces, 0) || 1);
  const most = Math.max(...sides.flatMap((side, n) => side.bins.map((one) => one.traces / totals[n])));
  return html`<${Chart} element=${svg} width=${whole} height=${height} label="Latency histograms of both Runs">
    <${Axis} marks=${tens(first, slots, perTen)} height=${height} width=${whole} />
    ${sides.map((side, n) => html`<g class=${n ? "side-b" : "side-a"} key=${n}>${side.bins.map((one) => {
      const tall = (one.traces / totals[n] / most) * (height - 6);
      return html`<rect key=${one.bin} x=${(one.bin - first) * width + 0.5} width=${Math.max(1, width - 1)} y=${height - tall} height=${tall} rx="1">
        <title>${plainly(side.name)}, ${seconds(one.from)} to ${seconds(one.to)}: ${number(one.traces)} traces</title></rect>`;
    })}</g>`)}
    <line class="floor" x1="0" x2=${whole} y1=${height} y2=${height} />
  <//>`;
}
