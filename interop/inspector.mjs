// The command of the MCP project's inspector, once for each thing that it can ask, over each of its transports.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { overStdio } from './node.mjs';

const manifest = createRequire(import.meta.url).resolve('@modelcontextprotocol/inspector/package.json');
const command = join(dirname(manifest), createRequire(import.meta.url)(manifest).bin['mcp-inspector']);

const first = (key, field) => (result) => result[key][0][field];

// Arguments, the exit code, and what of the result is what.
const asked = [
  [['tools/list'], 0, (result) => result.tools.length >= 30, true],
  [['resources/list'], 0, (result) => result.resources.length >= 25, true],
  [['prompts/list'], 0, first('prompts', 'name'), 'test_prompt_with_arguments'],
  [['resources/templates/list'], 0, first('resourceTemplates', 'name'), 'template'],
  [['resources/read', '--uri', 'test://static-text'], 0, first('contents', 'mimeType'), 'text/plain'],
  [['resources/read', '--uri', 'test://nowhere'], 1],
  [['tools/call', '--tool-name', 'sum', '--tool-arg', 'a=2', 'b=40'], 0, first('content', 'text'), '42'],
  [['tools/call', '--tool-name', 'test_tool_with_progress'], 0, first('content', 'text'), 'Done'],
  [['tools/call', '--tool-name', 'test_error_handling'], 5, (result) => result.isError, true],
  [['tools/call', '--tool-name', 'no_such_tool'], 5],
  [
    ['prompts/get', '--prompt-name', 'test_prompt_with_arguments', '--prompt-args', 'arg1=a', 'arg2=b'],
    0,
    (result) => result.messages[0].content.text,
    "Prompt with arguments: arg1='a', arg2='b'",
  ],
];

// Pages are fetched by the command; it has no other way to say so than that all is there.
const pageSize = 7;

/// One row for each era, of `[name, revision, {transport: [passed, all]}]`.
export async function inspector(urls) {
  const home = mkdtempSync(join(tmpdir(), 'erlmcp-interop-'));
  const stdio = () => {
    const { command: erl, args } = overStdio(pageSize);
    return ['-e', `ERL_LIBS=${process.env.ERL_LIBS}`, '--', erl, ...args];
  };
  const http = (name) => () => ['--transport', name, '--server-url', urls[name]];
  const rows = [];
  for (const [era, revision] of [['legacy', '2025-11-25'], ['modern', '2026-07-28']]) {
    const row = {};
    for (const [transport, target] of Object.entries({ stdio, http: http('http'), sse: http('sse') })) {
      let passed = 0;
      for (const [method, code, of, expected] of asked) {
        const given = ['--cli', '--format', 'json', '--quiet', '--protocol-era', era, '--method', ...method, ...target()];
        const { status, stdout, stderr } = await run(given, home);
        try {
          assert.equal(status, code, stderr);
          if (of) {
            const { result } = JSON.parse(stdout);
            assert.equal(of(result), expected);
            // Lists come out of many results, and so without what each says of itself.
            if (!method[0].endsWith('/list')) assert.equal('_meta' in result, era === 'modern');
          }
          passed++;
        } catch (error) {
          console.error(`FAILED inspector ${revision} ${transport}: ${method.join(' ')}: ${error}`);
        }
      }
      row[transport] = [passed, asked.length];
    }
    rows.push(['inspector', revision, row]);
  }
  rmSync(home, { recursive: true, force: true });
  return rows;
}

// It keeps a catalog in the home folder.
function run(args, home) {
  const options = { env: { ...process.env, HOME: home }, timeout: 60000, maxBuffer: 1 << 24 };
  return new Promise((done) =>
    execFile(process.execPath, [command, ...args], options, (error, stdout, stderr) => done({ status: error ? error.code : 0, stdout, stderr })),
  );
}
