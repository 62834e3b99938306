// The MCP project's conformance suite, against a server: all that a revision requires, and all that the suite has for it
// besides. What does not apply to this server is in not-applicable.json, with the reason.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const here = dirname(new URL(import.meta.url).pathname);
const suite = join(here, 'node_modules/@modelcontextprotocol/conformance/dist/index.js');
const notApplicable = JSON.parse(readFileSync(join(here, 'not-applicable.json'), 'utf8'));

/// `[revision, passed, all that apply, unexpected]`, for each revision.
export async function conformance(urls) {
  const rows = [];
  const stale = new Set(Object.keys(notApplicable));
  for (const revision of ['2025-11-25', '2026-07-28']) {
    const folder = mkdtempSync(join(tmpdir(), 'erlmcp-interop-'));
    const said = await run(['server', '--url', urls.http, '--requirements', revision, '-o', folder]);
    const scenarios = results(folder);
    rmSync(folder, { recursive: true, force: true });
    if (scenarios.size < 30) throw new Error(`the suite ran ${scenarios.size} scenarios only:\n${said}`);
    let passed = 0, applicable = 0;
    for (const [scenario, checks] of scenarios) {
      const wrong = checks.filter(({ status }) => status === 'FAILURE' || status === 'WARNING');
      if (scenario in notApplicable) {
        // Whatever passes whole, having looked at something of its own, applies.
        const looked = checks.some(({ id, status }) => status === 'SUCCESS' && !id.startsWith('wire-schema'));
        if (wrong.length > 0 || !looked) stale.delete(scenario);
        continue;
      }
      applicable++;
      if (wrong.length === 0 && checks.some(({ status }) => status === 'SUCCESS')) passed++;
      else console.error(`FAILED conformance ${revision} ${scenario}:`, wrong.map((one) => `${one.id}: ${one.errorMessage}`).join('; ') || 'nothing was checked');
    }
    rows.push([revision, passed, applicable]);
  }
  for (const scenario of stale) console.error(`FAILED conformance: ${scenario} is listed as not applicable, and is not so`);
  return [rows, stale.size === 0];
}

// By scenario: its folder is called server-SCENARIO-TIME.
function results(folder) {
  const found = new Map();
  for (const name of readdirSync(folder)) {
    const scenario = name.replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT[\dZ-]+$/, '');
    found.set(scenario, JSON.parse(readFileSync(join(folder, name, 'checks.json'), 'utf8')));
  }
  return found;
}

function run(args) {
  return new Promise((done) => {
    const child = spawn(process.execPath, [suite, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (said += text));
    child.on('exit', () => done(said));
  });
}
