// The Erlang node that clients are tried on: see interop_server.erl. A store for each, in a folder of this run.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join } from 'node:path';

const beams = process.env.INTEROP_BEAMS;
const stores = mkdtempSync('/dev/shm/erlmcp-interop-');
process.on('exit', () => rmSync(stores, { recursive: true, force: true }));

let started = 0;
const store = () => join(stores, String(started++));

/// Over HTTP, SSE and WebSocket: where, and how to end it.
export async function listening(pageSize) {
  const args = ['-noshell', '-pa', beams, '-run', 'interop_server', 'listen', store(), String(pageSize)];
  const node = spawn('erl', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: node.stdout });
  const urls = await new Promise((resolve, reject) => {
    lines.once('line', (line) => resolve(JSON.parse(line)));
    node.once('exit', (code) => reject(new Error(`the node ended with ${code}`)));
  });
  // What else it says, such as that a handler crashed on purpose, is no part of the protocol here.
  lines.on('line', () => {});
  return { urls, stop: () => new Promise((done) => (node.once('exit', done), node.stdin.end())) };
}

/// How to start the server of one client, over standard input and output.
export function overStdio(pageSize) {
  const flow = `#{transports => [#{type => stdio, config => #{page_size => ${pageSize}}}]}`;
  const args = ['-noshell', '-pa', beams, '-run', 'interop_server', 'publish', store()];
  return { command: 'erl', args: [...args, '-erlmcp_shm', 'claude_flow', flow, '-s', 'erlmcp_shm', 'stdio'] };
}
