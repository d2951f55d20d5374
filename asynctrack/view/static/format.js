// Numbers as people read them. Every function takes null for "not known".
const GROUPS = new Intl.NumberFormat("en-US");
const none = "–";

export function number(value) {
  return value === null || value === undefined ? none : GROUPS.format(value);
}

export function short(value) {
  if (value === null || value === undefined) return none;
  if (value >= 1e12) return value.toExponential(1);
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (value >= size) {
      const scaled = value / (unit === "k" ? 1e3 : size);
      return `${scaled >= 100 ? scaled.toFixed(0) : scaled.toFixed(1)}${unit}`;
    }
  }
  return GROUPS.format(value);
}

// What models read and wrote, and of these what came from the provider's cache, and was reasoning.
export function tokensIn(row) {
  return `${number(row.input_tokens)}${row.cache_read_tokens ? `, of them ${number(row.cache_read_tokens)} cached` : ""}`;
}

export function tokensOut(row) {
  return `${number(row.output_tokens)}${row.reasoning_tokens ? `, of them ${number(row.reasoning_tokens)} reasoning` : ""}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return none;
  if (value < 0) return `−${seconds(-value)}`;
  if (value === 0) return "0";
  if (value < 1e-3) return `${(value * 1e6).toFixed(0)} µs`;
  if (value < 0.9995) return `${(value * 1e3).toFixed(value < 0.01 ? 1 : 0)} ms`;
  if (value < 99.95) return `${value.toFixed(value < 9.995 ? 2 : 1)} s`;
  if (value < 5940) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${(value / 3600).toFixed(1)} h`;
}

export function dollars(value) {
  if (value === null || value === undefined) return none;
  if (value === 0) return "$0";
  if (value >= 100) return `$${GROUPS.format(Math.round(value))}`;
  if (value < 1e-5) return `$${value.toFixed(7)}`;
  return `$${value.toFixed(value >= 1 ? 2 : value >= 0.01 ? 3 : 5)}`;
}

export function percent(part, all) {
  if (!all) return none;
  const share = (100 * part) / all;
  return `${share === 0 || share >= 9.95 ? share.toFixed(0) : share.toFixed(1)} %`;
}

export function bytes(value) {
  for (const [size, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return `${value} bytes`;
}

const two = (value) => String(value).padStart(2, "0");

export function time(value, withSeconds = true) {
  if (value === null || value === undefined) return none;
  const at = new Date(value * 1e3);
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return withSeconds ? `${clock}:${two(at.getSeconds())}` : clock;
}

export function date(value) {
  if (value === null || value === undefined) return none;
  const at = new Date(value * 1e3);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

export function when(value) {
  return value === null || value === undefined ? none : `${date(value)} ${time(value)}`;
}
