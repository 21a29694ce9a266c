"""An analysis as one page, `index.html`: self-contained, offline, light and dark, readable on a phone.

Pictures are inline SVG whose colours are those of the page's theme. A content security policy forbids every request.
Whatever comes from outside (names of actors, of environments) is escaped.
"""

import re
from html import escape

from snn_policy.analysis.labels import COUNTS, SECTIONS, Section, rows
from snn_policy.analysis.report import Analysis, Summary
from snn_policy.analysis.wording import number
from snn_policy.reporting.themes import THEMES, Theme

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
UNBROKEN = {" %": "\u00a0%", "n = ": "n\u00a0=\u00a0"}
"""What stays on one line: a number and its sign, how many values a mean stands on."""
WORDS = (str, int, float)
"""Kinds of settings that have room in a line: one threshold per neuron has not."""
ROWS_SHOWN = 8
"""Rows of a table that are seen at once; the others unfold."""


def page(analysis: Analysis) -> str:
    """Return the page as HTML."""
    from snn_policy.analysis.pictures import drawable

    about, sections, drawn = analysis.about, analysis.sections, drawable(analysis)
    title = f"{about['actor']} in {about['environment']}"
    found, advised = (
        "".join(f"<li>{_unbroken(escape(sentence))}</li>" for sentence in sentences)
        for sentences in (analysis.observed, analysis.advice)
    )
    body = "".join(
        _section(analysis, name, section, sections[name], drawn)
        for name, section in SECTIONS.items()
        if name in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}: why conversion loses return</title><style>{_style()}</style></head><body><main>"
        f'<header><p class="kicker">Why conversion loses return</p><h1>{escape(title)}</h1>'
        f'<p class="about">{escape(_conversion(analysis))}</p></header>{_cards(sections["return"])}'
        f'<section class="advice"><h2>What to change</h2><ul class="findings">{advised}</ul></section>'
        f'<section><h2>What was found</h2><ul class="findings">{found}</ul></section>{body}'
        f"<footer>{escape(_footer(analysis))}</footer></main></body></html>\n"
    )


def _section(analysis: Analysis, name: str, section: Section, summary: Summary, drawn: list[str]) -> str:
    pictures = "".join(
        f'<figure role="img" aria-label="{escape(section.title)}">{inline_svg(analysis, picture)}</figure>'
        for picture in section.pictures
        if picture in drawn
    )
    shown = rows(name, summary)
    table = _table(shown[:ROWS_SHOWN])
    if len(shown) > ROWS_SHOWN + 2:
        more = f"{len(shown) - ROWS_SHOWN} more figures"
        table += f"<details><summary>{more}</summary>{_table(shown[ROWS_SHOWN:])}</details>"
    elif len(shown) > ROWS_SHOWN:
        table = _table(shown)
    text = f"<h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>"
    return f'<section id="{escape(name)}">{text}{pictures}{table}</section>'


def _unbroken(text: str) -> str:
    for broken, whole in UNBROKEN.items():
        text = text.replace(broken, whole)
    return text


def _table(shown: list[tuple[str, str, str]]) -> str:
    lines = "".join(
        f"<tr><th scope='row'>{escape(what)}</th><td>{escape(mean)}</td><td>{escape(interval)}</td></tr>"
        for what, mean, interval in shown
    )
    head = "<thead><tr><th scope='col'></th><th scope='col'>mean</th><th scope='col'>95 % interval</th></tr></thead>"
    return f'<div class="wide"><table>{head}<tbody>{lines}</tbody></table></div>'


def _cards(returns: Summary) -> str:
    names = {"snn": "spiking policy", "ann": "its ANN", "lost": "lost"}
    cards = []
    for name, title in names.items():
        if name in returns:
            unit = " %" if name == "lost" else ""
            cards.append(f"<div><dt>{title}</dt><dd>{escape(number(returns[name].mean))}{unit}</dd></div>")
    return f'<dl class="cards">{"".join(cards)}</dl>'


def _conversion(analysis: Analysis) -> str:
    about = analysis.about
    made = about["conversion"]
    told = {name: made[name] for name in ("tolerance", "threshold", "coding") if isinstance(made.get(name), WORDS)}
    known = [f"{name} {value}" for name, value in told.items()]
    alpha = made.get("alpha")
    if isinstance(alpha, list | tuple) and len(set(alpha)) == 1:
        alpha = alpha[0]
    known += [] if alpha is None else [f"α {alpha}"]
    neuron = about["neuron"] if about["neuron"] == "sigma-delta" else about["neuron"].upper()
    return f"{neuron} neurons, up to {about['timesteps']} timesteps per decision, {', '.join(known)}".rstrip(", ")


def _footer(analysis: Analysis) -> str:
    about = analysis.about
    last = about["seed"] + about["episodes"] - 1
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['episodes']} episodes, seeds {about['seed']} to {last}; intervals resample whole episodes. "
        f"{COUNTS}. "
        f"Comparisons of α, of disturbances and of sources of error use fewer of them. States were restored "
        f"{about['restored']}. {versions}."
    )


def inline_svg(analysis: Analysis, name: str) -> str:
    """Return a picture to stand inside a page: colours as the page's variables, no identifier twice on the page."""
    from snn_policy.analysis.pictures import rendered

    light = THEMES["light"]
    text = rendered(analysis, name, light, "svg", text="none").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    for variable, colour in _variables(light).items():
        text = text.replace(colour, f"var(--{variable})")
    return text


def _variables(theme: Theme) -> dict[str, str]:
    colours = {f"c{index}": colour for index, colour in enumerate(theme.colours)}
    return {"page": theme.page, "ink": theme.ink, "faint": theme.faint, **colours}


def _style() -> str:
    def colours(kind: str) -> str:
        return "".join(f"--{name}:{colour};" for name, colour in _variables(THEMES[kind]).items())

    return f":root{{{colours('light')}}}@media (prefers-color-scheme:dark){{:root{{{colours('dark')}}}}}{RULES}"


RULES = """
*{box-sizing:border-box}
:root{--quiet:color-mix(in srgb,var(--ink) 55%,var(--faint))}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:46rem;margin:0 auto;padding:1.5rem 1.1rem 3rem}
h1{font-size:1.5rem;line-height:1.25;margin:.1rem 0 .3rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:0 0 .4rem}
p{margin:.3rem 0 .8rem}
.kicker{color:var(--c0);font-weight:600;font-size:.85rem;margin:0}
.about,footer{color:var(--quiet);font-size:.9rem;overflow-wrap:anywhere}
section{border-top:1px solid color-mix(in srgb,var(--faint) 35%,transparent);padding-top:1.2rem;margin-top:1.8rem}
footer{border-top:1px solid color-mix(in srgb,var(--faint) 35%,transparent);padding-top:1rem;margin-top:2rem}
.cards{display:flex;flex-wrap:wrap;gap:.7rem;margin:1.1rem 0 0}
.cards div{flex:1 1 8rem;border:1px solid color-mix(in srgb,var(--faint) 45%,transparent);border-radius:.5rem;
padding:.6rem .9rem}
.cards dt{color:var(--quiet);font-size:.85rem}
.cards dd{margin:0;font-size:1.45rem;font-weight:600;font-variant-numeric:tabular-nums}
.advice{border:0;border-left:.25rem solid var(--c3);padding:.1rem 0 .1rem .9rem;margin-top:1.4rem}
.findings{padding-left:1.2rem;margin:.4rem 0}
.findings li{margin:.35rem 0}
figure{margin:.6rem 0 .9rem}
figure svg{display:block;width:100%;height:auto;max-width:40rem;margin:0 auto}
figure svg *{stroke-linejoin:round;stroke-linecap:butt}
figure svg text{font-family:system-ui,-apple-system,"Segoe UI",sans-serif!important}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.32rem .5rem;text-align:right;white-space:nowrap}
th[scope=row]{text-align:left;font-weight:400;white-space:normal;min-width:7rem}
thead th{color:var(--quiet);font-weight:500;font-size:.82rem}
tbody tr{border-top:1px solid color-mix(in srgb,var(--faint) 25%,transparent)}
details{margin-top:.4rem}
summary{cursor:pointer;color:var(--c0);font-size:.9rem;padding:.3rem 0}
"""
