// `memjs`, a client of the binary protocol: node memjs_binary.js HOST:PORT [USER PASSWORD [refused]]
'use strict';

const assert = require('assert');
const memjs = require('memjs');

const [server, username, password, refused] = process.argv.slice(2);
const options = { username, password, timeout: 30, retries: 1, logger: { log() {} } };
const client = memjs.Client.create(server, options);
const text = async (key) => { const { value } = await client.get(key); return value === null ? null : value.toString(); };

async function main() {
  if (refused) {
    await assert.rejects(client.set('key', 'x'), /authentication failed/);
    return;
  }
  await client.flush();

  assert.strictEqual(await text('key'), null);
  for (const value of ['text', 'ünïcode 鍵', '', Buffer.from([0x80, 0, 13, 10, 255])]) {
    assert.strictEqual(await client.set('key', value), true);
    assert.deepStrictEqual((await client.get('key')).value, Buffer.from(value));
  }
  assert.strictEqual(await client.add('key', 'x'), false);
  assert.strictEqual(await client.add('added', 'x'), true);
  assert.strictEqual(await client.replace('nothing', 'x'), false);
  assert.strictEqual(await client.replace('key', 'a'), true);
  assert.strictEqual(await client.append('key', 'b'), true);
  await assert.rejects(client.append('nothing', 'b'), /Item not stored/);
  assert.strictEqual(await text('key'), 'ab');

  const keys = [];
  for (let number = 0; number < 500; number += 1) keys.push(`many-${number}`);
  await Promise.all(keys.map((key) => client.set(key, key)));
  assert.deepStrictEqual(await Promise.all(keys.map(text)), keys);

  assert.deepStrictEqual(await client.increment('number', 5, { initial: 7 }), { success: true, value: 7 });
  assert.deepStrictEqual(await client.increment('number', 5, {}), { success: true, value: 12 });
  assert.deepStrictEqual(await client.decrement('number', 100, {}), { success: true, value: 0 });
  await assert.rejects(client.increment('key', 1, {}), /non-numeric value/);

  await client.set('short', 'x', { expires: 1000 });
  assert.strictEqual(await client.touch('short', 1), true);
  assert.strictEqual(await client.touch('nothing', 1), false);
  while ((await text('short')) !== null) await new Promise((resolve) => setTimeout(resolve, 100));

  const large = 'x'.repeat(1000000);
  await client.set('large', large);
  assert.strictEqual(await text('large'), large);
  await assert.rejects(client.set('large', 'x'.repeat(1024 * 1024)), /too large/);
  assert.strictEqual(await text('large'), null);
  await assert.rejects(client.set('k'.repeat(251), 'x'), /Invalid arguments/);
}

main().then(
  () => { console.log('passed'); process.exit(0); },
  (error) => { console.error(error); process.exit(1); },
);
