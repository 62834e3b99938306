// Tries everything, prints what passed, and writes it into the page that is given, between two marks.
import { readFileSync, writeFileSync } from 'node:fs';
import { clients } from './clients.mjs';
import { conformance } from './conformance.mjs';
import { inspector } from './inspector.mjs';
import { listening } from './node.mjs';

const [page] = process.argv.slice(2);
const [, before, after] = /^(.*<!-- interop -->\n).*?(?<=\n)(<!-- end of interop -->.*)$/s.exec(readFileSync(page, 'utf8'));
const versions = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8')).dependencies;
const named = (name) => `\`@modelcontextprotocol/${name}\` ${versions[`@modelcontextprotocol/${name}`]}`;

const whole = await listening(200);
const [suite, listed] = await conformance(whole.urls);
await whole.stop();
const paged = await listening(7);
const rows = [...(await clients(paged.urls)), ...(await inspector(paged.urls))];
await paged.stop();

const shown = { stdio: 'stdio', http: 'Streamable HTTP', sse: 'SSE', websocket: 'WebSocket' };
const cell = (count) => (count ? `${count[0]} of ${count[1]}` : '-');
const table = [
  `| checks passed | revision | ${Object.values(shown).join(' | ')} |`,
  `|---|---|${Object.keys(shown).map(() => '--:|').join('')}`,
  ...rows.map(([name, revision, row]) => `| ${named(name)} | ${revision} | ${Object.keys(shown).map((one) => cell(row[one])).join(' | ')} |`),
  '',
  `| scenarios passed of those that apply | ${suite.map(([revision]) => revision).join(' | ')} |`,
  `|---|${suite.map(() => '--:|').join('')}`,
  `| ${named('conformance')}, server | ${suite.map(([, ...count]) => cell(count)).join(' | ')} |`,
].map((line) => `${line}\n`).join('');
console.log(`\n${table}`);

writeFileSync(page, before + table + after);

const counts = [...rows.flatMap(([, , row]) => Object.values(row)), ...suite.map(([, ...count]) => count)];
if (!listed || counts.some(([passed, all]) => passed !== all)) process.exit(1);
