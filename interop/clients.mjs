// The client packages, each over each transport that it has, through checks.mjs.
import * as v1 from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport as Stdio1 } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport as Http1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { SSEClientTransport as Sse1 } from '@modelcontextprotocol/sdk/client/sse.js';
import { WebSocketClientTransport as Ws1 } from '@modelcontextprotocol/sdk/client/websocket.js';
import * as schemas from '@modelcontextprotocol/sdk/types.js';
import * as v2 from '@modelcontextprotocol/client';
import { StdioClientTransport as Stdio2 } from '@modelcontextprotocol/client/stdio';
import { checks } from './checks.mjs';
import { overStdio } from './node.mjs';

const pageSize = 7;
const capabilities = { elicitation: {}, sampling: {}, roots: {} };
const environment = { ...process.env };

// What the server may ask, and what this client's user, model and roots are.
const answers = {
  'elicitation/create': ({ params }) => ({
    action: 'accept',
    content: Object.fromEntries(Object.keys(params.requestedSchema.properties).map((field) => [field, 'Ada'])),
  }),
  'sampling/createMessage': ({ params }) => {
    const asked = params.messages[0].content;
    const said = (Array.isArray(asked) ? asked[0] : asked).text;
    return { role: 'assistant', model: 'none', content: { type: 'text', text: `${said}, too` } };
  },
  'roots/list': () => ({ roots: [{ uri: 'file:///here' }] }),
};

const kinds = { tools: 'listTools', resources: 'listResources', prompts: 'listPrompts' };

function adapter(client, { modern, absent, version, list, subscribe, ping, request, notification }) {
  const told = { updated: new Set(), lists: new Set(), log: [] };
  for (const [method, answer] of Object.entries(answers)) request(method, async (asked) => answer(asked));
  for (const kind of Object.keys(kinds)) notification(`notifications/${kind}/list_changed`, () => told.lists.add(kind));
  notification('notifications/resources/updated', ({ params }) => told.updated.add(params.uri));
  notification('notifications/message', ({ params }) => told.log.push(params.data));
  let level;
  return {
    client, modern, absent, told, version, ping,
    list: (kind) => list(kind),
    read: async (uri) => (await client.readResource({ uri }, { cacheMode: 'refresh' })).contents,
    call: (name, given, options) => {
      const meta = modern && level ? { _meta: { 'io.modelcontextprotocol/logLevel': level } } : {};
      const params = { name, arguments: given, ...meta };
      return modern === undefined ? client.callTool(params, undefined, options) : client.callTool(params, options);
    },
    watch: subscribe,
    logged: async (wanted, run) => {
      level = wanted;
      if (!modern) await client.setLoggingLevel(wanted);
      await run();
    },
  };
}

function sdk() {
  const client = new v1.Client({ name: 'sdk', version: '1' }, { capabilities });
  const of = (method, kind) => Object.values(schemas).find((one) => one?.shape?.method?.value === method && one.shape.params && kind);
  let version;
  const c = adapter(client, {
    absent: -32002,
    version: () => version,
    ping: () => client.ping(),
    list: async (kind) => {
      const items = [];
      let cursor, pages = 0;
      do {
        const page = await client[kinds[kind]](cursor ? { cursor } : {});
        items.push(...page[kind]);
        cursor = page.nextCursor;
        pages++;
      } while (cursor);
      if (pages !== Math.max(1, Math.ceil(items.length / pageSize))) throw new Error(`${items.length} ${kind} in ${pages} pages`);
      return items;
    },
    subscribe: async (uri) => {
      await client.subscribeResource({ uri });
      return () => client.unsubscribeResource({ uri });
    },
    request: (method, answer) => client.setRequestHandler(of(method, 'request'), answer),
    notification: (method, hear) => client.setNotificationHandler(of(method, 'notification'), hear),
  });
  const connect = async (transport) => {
    const { setProtocolVersion } = transport;
    transport.setProtocolVersion = (agreed) => (version = agreed, setProtocolVersion?.call(transport, agreed));
    await client.connect(transport);
  };
  return { c, connect };
}

function newer(modern) {
  const mode = modern ? { pin: '2026-07-28' } : 'legacy';
  const client = new v2.Client({ name: 'client', version: '2' }, { capabilities, versionNegotiation: { mode } });
  const c = adapter(client, {
    modern,
    // Its own number, whatever the revision's is.
    absent: -32602,
    version: () => client.getNegotiatedProtocolVersion(),
    ping: () => (modern ? client.discover() : client.ping()),
    // All pages are fetched by the client.
    list: async (kind) => (await client[kinds[kind]](undefined, { cacheMode: 'refresh' }))[kind],
    subscribe: async (uri) => {
      if (modern) {
        const lists = { toolsListChanged: true, resourcesListChanged: true, promptsListChanged: true };
        const subscription = await client.listen({ ...lists, resourceSubscriptions: [uri] });
        return () => subscription.close();
      }
      await client.subscribeResource({ uri });
      return () => client.unsubscribeResource({ uri });
    },
    request: (method, answer) => client.setRequestHandler(method, answer),
    notification: (method, hear) => client.setNotificationHandler(method, hear),
  });
  return { c, connect: (transport) => client.connect(transport) };
}

const stdio = (Transport) => () => new Transport({ ...overStdio(pageSize), env: environment, stderr: 'ignore' });
const at = (Transport, name) => (urls) => new Transport(new URL(urls[name]));

// The newer package has no WebSocket of its own, and takes a transport of the older one.
const tried = [
  ['sdk', '2025-11-25', sdk, { stdio: stdio(Stdio1), http: at(Http1, 'http'), sse: at(Sse1, 'sse'), websocket: at(Ws1, 'websocket') }],
  ['client', '2025-11-25', () => newer(false), { stdio: stdio(Stdio2), http: at(v2.StreamableHTTPClientTransport, 'http'), sse: at(v2.SSEClientTransport, 'sse'), websocket: at(Ws1, 'websocket') }],
  ['client', '2026-07-28', () => newer(true), { stdio: stdio(Stdio2), http: at(v2.StreamableHTTPClientTransport, 'http'), sse: at(v2.SSEClientTransport, 'sse'), websocket: at(Ws1, 'websocket') }],
];

/// Rows of `[client, revision, {transport: [passed, all]}]`.
export async function clients(urls) {
  const rows = [];
  for (const [name, revision, make, transports] of tried) {
    const row = {};
    for (const [transport, open] of Object.entries(transports)) {
      const { c, connect } = make();
      const all = Object.entries(checks);
      let passed = 0;
      try {
        await connect(open(urls));
        for (const [check, run] of all) {
          try {
            await run(c);
            passed++;
          } catch (error) {
            console.error(`FAILED ${name} ${revision} ${transport}: ${check}: ${error.stack ?? error}`);
          }
        }
        await c.client.close();
      } catch (error) {
        console.error(`FAILED ${name} ${revision} ${transport}: ${error.stack ?? error}`);
      }
      row[transport] = [passed, all.length];
    }
    rows.push([name, revision, row]);
  }
  return rows;
}
