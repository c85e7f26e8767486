"""How the report looks: on a screen of any width, light or dark, and printed."""

STYLE = """
:root{--text:#222;--soft:#555;--page:#fff;--line:#ddd;
--grid:#e4e4e4;--card:#f4f6fa;--code:#f6f6f6;--hit:#d8f0d8;
color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--text:#e4e6eb;--soft:#a6adb8;--page:#16181d;--line:#383c45;
--grid:#2c3038;--card:#22262e;--code:#1e2127;--hit:#1f4d2b}}
body{font:14px/1.45 system-ui,sans-serif;color:var(--text);background:var(--page);
max-width:1320px;margin:1.5em auto;padding:0 1em}
h1{font-size:1.6em;margin:0}h2{font-size:1.15em;margin:1.6em 0 .5em;border-bottom:1px solid var(--line)}
a{color:inherit}.about,.terms{color:var(--soft);margin:.2em 0 .8em}.terms dt{display:inline;font-weight:600}
.terms dd{display:inline;margin:0}.terms dd:after{content:"";display:block}
nav{margin:.8em 0}nav a{display:inline-block;margin-right:1.1em;padding:2px 0}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(380px,100%),1fr));gap:8px 18px}
.charts>div{break-inside:avoid}
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
svg .title{font-weight:600;font-size:13px;fill:var(--text)}.grid{stroke:var(--grid)}
.chosen{stroke:var(--soft);stroke-dasharray:4 3}
.legend{margin:0 0 0 4em;font-size:12px}.legend span{display:inline-block;margin-right:1em}
.legend i{display:inline-block;width:10px;height:10px;margin-right:4px}
h3{margin:.3em 0}.side{display:flex;flex-wrap:wrap;gap:0 3em}.side>div,.wide{overflow-x:auto;max-width:100%}
table{border-collapse:collapse}td,th{padding:2px 10px;text-align:right;border-bottom:1px solid var(--line)}
td:first-child,th:first-child{text-align:left}.samples td,.samples th{text-align:left;vertical-align:top}
.samples td:first-child{white-space:nowrap}
.hit{background:var(--hit);font-weight:600}.ids span{display:inline-block;margin:0 6px 2px 0;padding:0 3px}
.ids .pic{width:78px;vertical-align:top;padding:3px;font-size:11px;line-height:1.25;overflow-wrap:anywhere}
.pic img{display:block;width:72px;height:72px;object-fit:contain;margin-bottom:2px}
.big{display:flex;flex-wrap:wrap;gap:10px;margin:1em 0}
.big div{background:var(--card);padding:8px 14px;border-radius:6px}
.big b{display:block;font-size:1.35em}pre{background:var(--code);padding:1em;overflow:auto;font-size:12px}
.pic i{display:block;width:72px;height:72px;margin-bottom:2px;background:var(--card)}
@media (max-width:640px){body{margin:.8em auto;padding:0 .7em}
.samples,.samples tbody,.samples tr,.samples td{display:block}
.samples th{display:none}
.samples td{border:0;padding:3px 0}.samples td[data-name]:before{content:attr(data-name);
display:block;color:var(--soft)}.samples tr{border-bottom:1px solid var(--line)}.big div{flex:1 1 40%}}
@page{margin:12mm}
@media print{:root{--text:#222;--soft:#444;--page:#fff;
--line:#ddd;--grid:#e4e4e4;--card:#f4f6fa;--code:#f6f6f6;--hit:#d8f0d8}
body{max-width:none;margin:0;padding:0;font-size:11px;print-color-adjust:exact}nav{display:none}
pre{white-space:pre-wrap;font-size:9px}
.charts{grid-template-columns:repeat(3,1fr);gap:2px 8px}.legend{margin-left:2em;font-size:9px}
.big div{padding:4px 9px}
h2{break-after:avoid;margin-top:1em}tr,.big div{break-inside:avoid}
.pic,.pic img,.pic i{width:52px}.pic img,.pic i{height:52px}.ids .pic{width:58px;font-size:9px}}
"""
