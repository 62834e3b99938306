// What is asked of the server through a client, whichever that is and whatever it goes through. Each check stands for
// itself; the names are what is printed where one fails.
import assert from 'node:assert/strict';

const text = (result) => result.content.map((part) => part.text).join('');

const fails = async (promise, code) => {
  await assert.rejects(promise, (error) => (assert.equal(error.code, code, String(error)), true));
};

const until = async (what, isSo) => {
  for (let tries = 0; !(await isSo()); tries++) {
    assert.ok(tries < 200, `still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

export const checks = {
  'the server says who it is': async (c) => {
    assert.equal(c.client.getServerVersion().name, 'interop');
    assert.equal(c.client.getInstructions(), 'Ask me anything');
    const can = c.client.getServerCapabilities();
    assert.ok(can.tools.listChanged && can.resources.subscribe && can.prompts.listChanged && can.completions);
  },
  'the revision is the one asked for': async (c) => assert.equal(c.version(), c.modern ? '2026-07-28' : '2025-11-25'),
  'is there': async (c) => c.ping(),
  'lists come in pages, each item once': async (c) => {
    for (const [kind, least] of [['tools', 30], ['resources', 25], ['prompts', 3]]) {
      const names = (await c.list(kind)).map((item) => item.uri ?? item.name);
      assert.ok(names.length >= least, `${names.length} ${kind}`);
      assert.deepEqual(names, [...new Set(names)].sort());
    }
  },
  'a cursor that nobody gave out is refused': async (c) => fails(c.client.listTools({ cursor: '*' }), -32602),
  'schemas arrive whole': async (c) => {
    const tool = (await c.list('tools')).find((one) => one.name === 'json_schema_2020_12_tool');
    assert.equal(tool.inputSchema.$defs.address.$anchor, 'addressDef');
    assert.equal(tool.inputSchema.additionalProperties, false);
  },
  'templates': async (c) => {
    const { resourceTemplates } = await c.client.listResourceTemplates();
    assert.equal(resourceTemplates[0].uriTemplate, 'test://template/{id}/data');
  },
  'text, bytes, and what is made on request': async (c) => {
    const [plain] = await c.read('test://static-text');
    assert.deepEqual([plain.mimeType, plain.text], ['text/plain', 'This is the content of the static text resource.']);
    const [image] = await c.read('test://static-binary');
    assert.equal(Buffer.from(image.blob, 'base64').subarray(1, 4).toString(), 'PNG');
    const [made] = await c.read('test://template/7/data');
    assert.equal(JSON.parse(made.text).id, '7');
  },
  'what is not there': async (c) => {
    await fails(c.read('test://nowhere'), c.absent);
    await fails(c.call('no_such_tool', {}), -32602);
    await fails(c.client.getPrompt({ name: 'no_such_prompt' }), -32602);
  },
  'a tool is called': async (c) => assert.equal(text(await c.call('sum', { a: 2, b: 40 })), '42'),
  'a tool that fails, and a call that does': async (c) => {
    const failed = await c.call('test_error_handling', {});
    assert.ok(failed.isError && /intentionally/.test(text(failed)));
    const refused = await c.call('sum', { a: 'two', b: 40 });
    assert.ok(refused.isError && text(refused).includes('/a must be of type'), text(refused));
    await fails(c.call('panic', {}), -32603);
  },
  'content of all types': async (c) => {
    const { content } = await c.call('test_multiple_content_types', {});
    assert.deepEqual(content.map((part) => part.type), ['text', 'image', 'resource']);
  },
  'progress': async (c) => {
    const seen = [];
    await c.call('test_tool_with_progress', {}, { onprogress: (note) => seen.push([note.progress, note.total]) });
    assert.deepEqual(seen, [[0, 100], [50, 100], [100, 100]]);
  },
  'a call that is cancelled ends in the server': async (c) => {
    const ended = async () => Number((await c.read('test://waits'))[0].text);
    const before = await ended();
    const abort = new AbortController();
    await assert.rejects(c.call('wait', {}, { signal: abort.signal, onprogress: () => abort.abort('enough') }));
    await until('the call has ended', async () => (await ended()) === before + 1);
  },
  'prompts': async (c) => {
    const { messages } = await c.client.getPrompt({ name: 'test_prompt_with_arguments', arguments: { arg1: 'λ', arg2: '{{arg1}}' } });
    assert.equal(messages[0].content.text, "Prompt with arguments: arg1='λ', arg2='{{arg1}}'");
    await fails(c.client.getPrompt({ name: 'test_prompt_with_arguments', arguments: { arg1: 'λ' } }), -32602);
  },
  'completions': async (c) => {
    const ref = { type: 'ref/prompt', name: 'test_prompt_with_arguments' };
    const { completion } = await c.client.complete({ ref, argument: { name: 'arg1', value: 'par' } });
    assert.deepEqual(completion.values, ['paris', 'park', 'party']);
  },
  'what is published is read as it is, and once withdrawn is gone': async (c) => {
    const long = 'λ—😀\n"\\\u2028'.repeat(9000);
    for (const sent of ['short', long]) {
      await c.call('publish', { uri: 'test://new', text: sent });
      assert.equal((await c.read('test://new'))[0].text, sent);
    }
    await c.call('withdraw', { uri: 'test://new' });
    await fails(c.read('test://new'), c.absent);
  },
  'changes are told': async (c) => {
    const uri = 'test://watched-resource';
    const end = await c.watch(uri);
    await c.call('publish', { uri, text: 'changed' });
    await until('told of the resource', () => c.told.updated.has(uri));
    for (const [kind, change] of [['resources', ['publish', { uri: 'test://more', text: '' }]], ['tools', ['test_trigger_tool_change', {}]], ['prompts', ['test_trigger_prompt_change', {}]]]) {
      c.told.lists.delete(kind);
      await c.call(...change);
      await until(`told of ${kind}`, () => c.told.lists.has(kind));
    }
    await end();
    c.told.updated.clear();
    await c.call('publish', { uri, text: 'not told' });
    await c.call('withdraw', { uri: 'test://more' });
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.ok(!c.told.updated.has(uri));
  },
  'the server asks for a form, the model, the roots': async (c) => {
    assert.match(text(await c.call('test_elicitation', { message: 'Name?' })), /action=accept, content=\{"response":"Ada"\}/);
    assert.equal(text(await c.call('test_sampling', { prompt: 'Hello' })), 'LLM response: Hello, too');
    assert.equal(text(await c.call('test_input_required_result_list_roots', {})), 'file:///here');
    assert.equal(text(await c.call('test_input_required_result_multiple_inputs', {})), 'All of them');
    assert.equal(text(await c.call('test_input_required_result_multi_round', {})), 'Ada likes Ada');
    const { messages } = await c.client.getPrompt({ name: 'test_input_required_result_prompt' });
    assert.equal(messages[0].content.text, 'Prompt with context: Ada');
  },
  'the log, from the level asked for': async (c) => {
    c.told.log.length = 0;
    await c.logged('error', () => c.call('test_tool_with_logging', {}));
    assert.deepEqual(c.told.log, []);
    await c.logged('info', () => c.call('test_tool_with_logging', {}));
    assert.deepEqual(c.told.log, ['Tool execution started', 'Tool processing data', 'Tool execution completed']);
  },
  'many at once, each its own answer': async (c) => {
    const sums = await Promise.all(Array.from({ length: 60 }, (_, n) => c.call('sum', { a: n, b: n })));
    assert.deepEqual(sums.map(text), Array.from({ length: 60 }, (_, n) => String(2 * n)));
  },
};
