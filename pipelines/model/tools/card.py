"""The model's card, in Markdown and as one HTML page."""

import base64
import html

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid #d0d7de;padding:.25rem .75rem;text-align:left}
td:nth-child(2){font-variant-numeric:tabular-nums}.failed{color:#b42318}.passed{color:#1a7f37}.inconclusive{color:#9a6700}
code{background:#f0f2f4;padding:.1rem .3rem;border-radius:3px;overflow-wrap:anywhere}figure{display:inline-block;margin:.5rem}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}code{background:#21262d}figure{background:#fff}}"""


def sections(settings, found):
    """Return the card's tables: a heading, the columns and the rows of each."""
    about = [
        ("Data", "data", settings["data"]),
        ("Commit", "commit", settings["commit"] or "not known"),
        ("Image", "image", settings["image"]),
        ("Seed", "seed", settings["seed"]),
        ("Command", "command", " ".join(settings["command"])),
    ]
    yield "Where it comes from", ("", ""), [(name, str(value)) for name, _, value in about]
    yield "Tables", ("table", "SHA-256", "rows"), [(t["name"], t["sha256"], f"{t['rows']:,}") for t in settings["tables"]]
    parameters = found["parameters"] or {}
    if parameters:
        yield "Parameters", ("parameter", "value"), sorted(parameters.items())
    yield "Gates", ("verdict", "what was found"), [(gate["verdict"], gate["reason"]) for gate in found["gates"]]
    segments = [(gate["metric"], s["segment"], f"{s['rows']:,}", f"{s['value']:.4f}", f"{s['champion']:.4f}", s["verdict"]) for gate in found["gates"] for s in gate.get("segments", [])]
    if segments:
        yield "Against the champion, by segment", ("metric", "segment", "rows", "this model", "champion", "verdict"), segments
    parts = [(s["metric"], s["segment"], f"{s['rows']:,}", f"{s['value']:.4f}", f"{s['low']:.4f} to {s['high']:.4f}" if s["low"] is not None else "too few rows") for s in found["segments"]]
    if parts:
        yield "By segment", ("metric", "segment", "rows", "value", "95 %"), parts
    yield "Metrics on held-out rows", ("metric", "value"), [(name, f"{value:.6g}") for name, value in sorted(found["metrics"].items())]
    yield "Libraries", ("library", "version"), sorted(settings["libraries"].items())


def cell(value):
    """Return text that breaks no Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def write_card(settings, found, plots, out):
    """Write card.md and card.html."""
    name, description = settings["name"], settings.get("description") or ""
    lines = [f"# {name}", "", *([description, ""] if description else [])]
    body = [f"<h1>{html.escape(name)}</h1>", f"<p>{html.escape(description)}</p>"]
    for title, columns, rows in sections(settings, found):
        lines += [f"## {title}", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows] + [""]
        cells = "".join("<tr>" + "".join(f'<td class="{html.escape(v) if v in ("passed", "failed", "inconclusive") else ""}">{html.escape(v)}</td>' for v in map(str, row)) + "</tr>" for row in rows)
        head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
        body.append(f"<h2>{html.escape(title)}</h2><table><tr>{head}</tr>{cells}</table>")
    if plots:
        lines += ["## Plots", "", *[f"![{plot}]({plot})" for plot in plots], ""]
        body.append("<h2>Plots</h2>")
        for plot in plots:
            data = base64.b64encode((out / plot).read_bytes()).decode("ascii")
            body.append(f'<figure><img alt="{html.escape(plot)}" src="data:image/svg+xml;base64,{data}"></figure>')
    (out / "card.md").write_text("\n".join(lines), encoding="utf-8")
    page = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(name)}</title><style>{STYLE}</style></head><body>{"".join(body)}</body></html>\n'
    (out / "card.html").write_text(page, encoding="utf-8")
