"""Curves that can be looked into, inside a page that loads nothing: points tell their numbers, series come and go."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7A7A7A", "#8C510A", "#5E3C99")
"""Okabe and Ito's, told apart by colour-blind readers."""


@dataclass(frozen=True)
class Point:
    """One setting: where it lies, and for each group of pixels and metric its mean, interval and single seeds."""

    x: float
    label: str
    values: dict[str, dict[str, tuple[float, float | None, float | None, list[float]]]]


@dataclass(frozen=True)
class Series:
    """Points of one kind, joined in their order."""

    name: str
    points: list[Point]


STYLE = """
.curve { position: relative; margin: 1rem 0; }
.curve svg { width: 100%; height: auto; display: block; touch-action: manipulation; }
.curve select, .curve button { font: inherit; font-size: .9rem; margin: 0 .4rem .4rem 0; padding: .25rem .5rem;
  border: 1px solid #c4ccd6; border-radius: 6px; background: #fff; color: inherit; max-width: 100%; }
.curve button[aria-pressed=false] { opacity: .4; }
.curve button i { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em; }
.curve output { display: block; min-height: 3em; color: #5b6776; font-size: .9rem; }
"""

SCRIPT = """
document.querySelectorAll('.curve').forEach(box => {
  const spec = JSON.parse(box.querySelector('script').textContent), tell = box.querySelector('output');
  const NS = 'http://www.w3.org/2000/svg', H = 380, L = 58, R = 14, T = 12, B = 46;
  const pick = (words, list, change) => { const s = document.createElement('select');
    s.setAttribute('aria-label', words);
    list.forEach(([key, name]) => { const o = document.createElement('option'); o.value = key; o.textContent = name;
      s.append(o); }); s.onchange = change; box.insertBefore(s, tell); return s; };
  const group = pick('group of pixels', spec.groups.map(g => [g, g]), draw);
  const metric = pick('number shown', spec.metrics, draw);
  const off = new Set(); const bar = document.createElement('div'); box.insertBefore(bar, tell);
  spec.series.forEach((one, i) => { const b = document.createElement('button'); b.type = 'button';
    b.setAttribute('aria-pressed', 'true'); const dot = document.createElement('i');
    dot.style.background = spec.colors[i % spec.colors.length]; b.append(dot, one.name);
    b.onclick = () => { off.has(i) ? off.delete(i) : off.add(i); b.setAttribute('aria-pressed', String(!off.has(i)));
      draw(); }; bar.append(b); });
  const svg = document.createElementNS(NS, 'svg');
  svg.setAttribute('role', 'img'); box.insertBefore(svg, tell);
  function put(kind, attrs, text) { const e = document.createElementNS(NS, kind);
    Object.entries(attrs).forEach(([k, v]) => e.setAttribute(k, v)); if (text !== undefined) e.textContent = text;
    svg.append(e); return e; }
  function steps(low, high) { const raw = (high - low) / 5 || 1, p = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map(m => m * p).find(s => s >= raw); const out = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + 1e-9; v += step) out.push(+v.toFixed(10));
    return out; }
  function draw() {
    const W = Math.max(280, Math.min(760, box.clientWidth || 640)); svg.setAttribute('viewBox', `0 0 ${W} ${H}`);
    svg.replaceChildren(); const m = metric.value, g = group.value, share = m.startsWith('within');
    const f = share ? 100 : 1, unit = share ? ' %' : '°';
    const all = spec.series.map((one, i) => one.points.map(p => ({p, v: (p.values[g] || {})[m]}))
      .filter(q => q.v && q.v[0] !== null));
    const flat = all.flat(); if (!flat.length) { put('text', {x: 20, y: 40}, 'no run was judged here'); return; }
    const xs = flat.map(q => q.p.x);
    const ys = flat.flatMap(q => [q.v[0], q.v[1], q.v[2], ...q.v[3]]).filter(v => v !== null);
    let x0 = Math.min(...xs), x1 = Math.max(...xs); const pad = (x1 - x0 || 1) * .05; x0 -= pad; x1 += pad;
    const y1 = share ? 100 : Math.max(...ys) * 1.06 || 1, X = x => L + (x - x0) / (x1 - x0) * (W - L - R);
    const Y = y => H - B - Math.max(0, f * y) / y1 * (H - B - T);
    steps(0, y1).forEach(v => { put('line', {x1: L, x2: W - R, y1: Y(v / f), y2: Y(v / f), stroke: '#e6e9ed'});
      put('text', {x: L - 8, y: Y(v / f) + 4, 'text-anchor': 'end', 'font-size': 13, fill: '#5b6776'}, v + unit); });
    steps(x0, x1).forEach(v => put('text', {x: X(v), y: H - B + 20, 'text-anchor': 'middle', 'font-size': 13,
      fill: '#5b6776'}, +v.toPrecision(4)));
    put('text', {x: (L + W - R) / 2, y: H - 6, 'text-anchor': 'middle', 'font-size': 14, fill: '#1c2530'}, spec.x);
    all.forEach((line, i) => { if (off.has(i)) return; const c = spec.colors[i % spec.colors.length];
      if (spec.joined) put('polyline', {points: line.map(q => X(q.p.x) + ',' + Y(q.v[0])).join(' '), fill: 'none',
        stroke: c, 'stroke-width': 2});
      line.forEach(q => { if (q.v[1] !== null) put('line', {x1: X(q.p.x), x2: X(q.p.x), y1: Y(q.v[1]), y2: Y(q.v[2]),
          stroke: c, 'stroke-width': 1.5});
        q.v[3].forEach(s => put('circle', {cx: X(q.p.x), cy: Y(s), r: 2.2, fill: c, opacity: .55}));
        const dot = put('circle', {cx: X(q.p.x), cy: Y(q.v[0]), r: 6, fill: c, tabindex: 0});
        const say = () => { const n = v => (f * v).toFixed(1) + unit; tell.textContent = spec.series[i].name + ', '
          + q.p.label + ': ' + n(q.v[0]) + (q.v[1] === null ? ', no interval' : ', 95 % interval ' + n(q.v[1]) + ' to '
          + n(q.v[2])) + '; seeds ' + q.v[3].map(n).join(', '); };
        dot.onmouseenter = say; dot.onclick = say; dot.onfocus = say; }); });
  }
  draw(); window.addEventListener('resize', draw);
});
"""


def curve(
    series: Sequence[Series], *, x: str, groups: Sequence[str], metrics: Sequence[tuple[str, str]], joined: bool
) -> str:
    """A chart as HTML; the page must hold ``STYLE`` and ``SCRIPT`` once.

    Parameters
    ----------
    series
        What is drawn; shares are given 0 to 1 and shown in percent, all else is in degrees.
    x
        Words under the axis.
    groups, metrics
        What the reader can choose from: groups of pixels, and pairs of a metric's key and its words.
    joined
        Whether the points of a series are joined.
    """
    spec = {
        "x": x,
        "groups": list(groups),
        "metrics": [list(pair) for pair in metrics],
        "joined": joined,
        "colors": COLORS,
        "series": [asdict(one) for one in series],
    }
    text = json.dumps(_without_nan(spec), allow_nan=False).replace("</", "<\\/")
    return (
        f'<div class="curve"><script type="application/json">{text}</script>'
        f"<output>{escape('Touch a point to read it; touch a name to hide its points.')}</output></div>"
    )


def _without_nan(value: object) -> object:
    """The same with NaN as None, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and value != value else value
