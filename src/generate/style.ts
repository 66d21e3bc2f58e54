/** The CSS of the reference page, light and dark. */
export const style = `
:root { color-scheme: light dark; --line: light-dark(#e3e6ea, #30363d); --soft: light-dark(#f6f8fa, #161b22); --text: light-dark(#1f2328, #e6edf3); --dim: light-dark(#59636e, #9198a1); --link: light-dark(#0a58ca, #6cb0ff); }
* { box-sizing: border-box; }
body { margin: 0; display: grid; grid-template-columns: 22rem minmax(0, 1fr); font: 15px/1.55 system-ui, sans-serif; color: var(--text); background: light-dark(#fff, #0d1117); }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1rem 1.25rem 3rem; background: var(--soft); border-right: 1px solid var(--line); font-size: 13px; }
nav h1 { font-size: 1.3rem; margin: .25rem 0 .75rem; }
nav input[type=search] { width: 100%; padding: .45rem .6rem; font: inherit; color: inherit; background: light-dark(#fff, #0d1117); border: 1px solid var(--line); border-radius: 6px; }
.languages { border: 0; margin: .75rem 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: .1rem .8rem; } .languages legend { color: var(--dim); padding: 0; }
#menu > summary { color: var(--dim); margin-top: .75rem; }
[hidden] { display: none !important; }
body:has(#in-curl:checked) .sample:not(.curl), body:has(#in-typescript:checked) .sample:not(.typescript), body:has(#in-python:checked) .sample:not(.python) { display: none; }
pre { position: relative; }
pre.run { padding-right: 5rem; white-space: pre-wrap; overflow-wrap: anywhere; }
pre button { position: absolute; top: .4rem; right: .4rem; font: 12px system-ui, sans-serif; padding: .2rem .5rem; color: var(--dim); background: var(--soft); border: 1px solid var(--line); border-radius: 5px; cursor: pointer; }
pre button:hover, pre button:focus-visible { color: var(--link); border-color: var(--link); }
.path { margin: 0 0 .6rem; }
.reason { white-space: nowrap; margin-right: .6rem; font-size: 13px; }
nav h2 { font-size: .75rem; letter-spacing: .06em; color: var(--dim); margin: 1.25rem 0 .25rem; }
nav h2.tag { text-transform: uppercase; }
nav a { display: block; padding: .15rem 0; color: inherit; text-decoration: none; overflow-wrap: anywhere; }
nav a:hover { color: var(--link); }
main { padding: 1rem 2.5rem 6rem; max-width: 72rem; }
main h2 { margin: 2.5rem 0 .5rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
main h2.tag { text-transform: capitalize; }
section { margin: 2rem 0; }
h3 { font-size: 1.05rem; margin: 0 0 .4rem; }
h4 { margin: 1rem 0 .3rem; font-size: .85rem; color: var(--dim); }
a { color: var(--link); }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .88em; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .75rem 1rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-top: 1px solid var(--line); font-weight: normal; overflow-wrap: anywhere; }
th, td:nth-child(2):not(:last-child) { white-space: nowrap; }
td:last-child { color: var(--dim); }
.depth1 { padding-left: 1.8rem; } .depth2 { padding-left: 3rem; } .depth3 { padding-left: 4.2rem; } .depth4 { padding-left: 5.4rem; }
details { margin: .4rem 0; } summary { cursor: pointer; }
.small { color: var(--dim); font-size: 13px; margin: 0; }
b.GET, b.POST, b.PUT, b.DELETE, b.PATCH { font-size: .72em; padding: .1em .45em; border-radius: 4px; color: #fff; }
b.GET { background: #1a7f4b; } b.POST { background: #0a58ca; } b.PUT, b.PATCH { background: #9a6700; } b.DELETE { background: #b42318; }
@media (max-width: 800px) { body { display: block; } nav { position: static; height: auto; } main { padding: 1rem; } tr { display: block; padding: .35rem 0; border-top: 1px solid var(--line); } th, td { display: inline-block; border: 0; padding: 0 .6rem; } td:empty { display: none; } td:last-child { display: block; } }
`;
