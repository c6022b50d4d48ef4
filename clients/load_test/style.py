"""The page's style sheet, for light and dark."""

STYLE = """
:root{--page:#f6f6f3;--card:#fff;--ink:#14140f;--soft:#5c5b55;--grid:#e6e5df;--axis:#b9b8b0;--good:#0b7a2c;--bad:#c4302b;
--good-back:#e0f3e4;--bad-back:#fbe4e2;--s1:#2a6fd0;--s2:#d95f1e;--s3:#128a63;--s4:#8a4fc0;--s5:#a67c00;--s6:#5f6b7a}
@media (prefers-color-scheme:dark){:root{--page:#101010;--card:#1b1b1a;--ink:#f2f1ec;--soft:#a9a89f;--grid:#30302d;
--axis:#5a5a54;--good:#5fd08a;--bad:#ff8078;--good-back:#12351f;--bad-back:#43191a;--s1:#5b9bf0;--s2:#f0884a;--s3:#3fbf92;
--s4:#b68be0;--s5:#d9ac3a;--s6:#9aa7b6}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.45 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 48px}
header{display:flex;justify-content:space-between;align-items:center;gap:16px;margin-bottom:20px}
h1{margin:0;font-size:24px;letter-spacing:-.01em}
h2{margin:0 0 10px;font-size:15px}
header p{margin:2px 0 0;color:var(--soft)}
.verdict{padding:6px 16px;border-radius:999px;text-transform:uppercase;letter-spacing:.06em;font-size:13px}
.verdict.pass{color:var(--good);background:var(--good-back)}
.verdict.fail{color:var(--bad);background:var(--bad-back)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin-bottom:12px}
.tile,figure,section:not(.tiles):not(.charts){background:var(--card);border:1px solid var(--grid);border-radius:10px}
.tile{padding:14px 16px}
.tile p{margin:0;color:var(--soft);font-size:13px}
.tile b{display:block;font-size:24px;letter-spacing:-.02em;margin:2px 0}
.tile p.pass{color:var(--good)}
.tile p.fail{color:var(--bad)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:12px;margin-bottom:12px}
figure{margin:0;padding:14px 16px 8px}
figcaption{display:flex;flex-wrap:wrap;gap:2px 10px;align-items:baseline;margin-bottom:6px}
figcaption span{color:var(--soft);font-size:13px}
.legend{margin-left:auto;display:flex;gap:14px}
.key{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
.k1{background:var(--s1)}.k2{background:var(--s2)}.k3{background:var(--s3)}
.k4{background:var(--s4)}.k5{background:var(--s5)}.k6{background:var(--s6)}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}
svg .name{fill:var(--ink)}
.grid{stroke:var(--grid)}
.axis{stroke:var(--axis)}
.mark{stroke:var(--s2);stroke-dasharray:3 3}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.line.s1{stroke:var(--s1)}.line.s2{stroke:var(--s2)}.line.s3{stroke:var(--s3)}
.line.s4{stroke:var(--s4)}.line.s5{stroke:var(--s5)}.line.s6{stroke:var(--s6)}
.area{fill:var(--s1);opacity:.1}
.bar{fill:var(--s1)}
.bar:hover{opacity:.7}
.dot{fill:transparent}
.dot:hover{fill:var(--ink);fill-opacity:.35}
section:not(.tiles):not(.charts){padding:14px 16px;margin-bottom:12px;overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:500;color:var(--soft);padding:3px 28px 3px 0;white-space:nowrap}
td,tr:first-child th:not(:first-child){text-align:right;padding:3px 28px 3px 0}
tr>:last-child,tr:first-child th:last-child:not(:first-child){padding-right:0}
.load td{text-align:left}
.tables{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:0 12px;align-items:start}
ul{margin:0;padding-left:18px}
"""
