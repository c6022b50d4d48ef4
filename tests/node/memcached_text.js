// node's `memcached`, a client of the text protocol: node memcached_text.js HOST:PORT
'use strict';

const assert = require('assert');
const { promisify } = require('util');
const Memcached = require('memcached');

const client = new Memcached(process.argv[2], { timeout: 30000, retries: 0, poolSize: 4 });
const call = (name, ...words) => promisify(client[name]).call(client, ...words);

async function main() {
  await call('flush');

  assert.strictEqual(await call('get', 'key'), undefined);
  for (const value of ['text', 'ünïcode 鍵', 42, true, { a: [1, 2, null] }, Buffer.from([0, 13, 10, 255])]) {
    assert.strictEqual(await call('set', 'key', value, 0), true);
    assert.deepStrictEqual(await call('get', 'key'), value);
  }
  await assert.rejects(call('add', 'key', 'x', 0), /not stored/);
  await assert.rejects(call('replace', 'nothing', 'x', 0), /not stored/);
  await call('set', 'key', 'b', 0);
  assert.strictEqual(await call('append', 'key', 'c'), true);
  assert.strictEqual(await call('prepend', 'key', 'a'), true);
  assert.strictEqual(await call('get', 'key'), 'abc');

  const keys = [];
  for (let number = 0; number < 200; number += 1) keys.push(`many-${number}`);
  await Promise.all(keys.map((key, number) => call('set', key, number, 0)));
  const many = await call('getMulti', [...keys, 'nothing']);
  assert.strictEqual(Object.keys(many).length, 200);
  keys.forEach((key, number) => assert.strictEqual(many[key], number));

  const { cas, key } = await call('gets', 'key');
  assert.strictEqual(key, 'abc');
  assert.strictEqual(await call('cas', 'key', 'new', cas, 0), true);
  assert.strictEqual(await call('cas', 'key', 'newer', cas, 0), false);
  assert.strictEqual(await call('get', 'key'), 'new');

  assert.strictEqual(await call('incr', 'nothing', 1), false);
  await call('set', 'number', 10, 0);
  assert.strictEqual(await call('incr', 'number', 5), 15);
  assert.strictEqual(await call('decr', 'number', 100), 0);
  await assert.rejects(call('incr', 'key', 1), /non-numeric value/);

  await call('set', 'short', 'x', 1000);
  assert.strictEqual(await call('touch', 'short', 1), true);
  assert.strictEqual(await call('touch', 'nothing', 1), false);
  while ((await call('get', 'short')) !== undefined) await new Promise((resolve) => setTimeout(resolve, 100));

  const large = 'x'.repeat(1000000);
  await call('set', 'large', large, 0);
  assert.strictEqual(await call('get', 'large'), large);

  assert.strictEqual(await call('del', 'key'), true);
  assert.strictEqual(await call('del', 'key'), false);
  const [version] = await call('version');
  assert.match(version.version, /^\d+\.\d+\.\d+$/);
  const [stats] = await call('stats');
  assert.strictEqual(stats.version, version.version);
  assert.ok((await call('settings')).length === 1 && (await call('items')).length === 1);
  await call('flush');
  assert.strictEqual(await call('get', 'number'), undefined);

  // Last, since after a SERVER_ERROR this client leaves the server alone for a while.
  await call('set', 'large', 'small', 0);
  client.maxValue = 10 * 1024 * 1024; // so that the server is what refuses
  assert.strictEqual(await call('set', 'large', 'x'.repeat(1024 * 1024), 0), false);
  const other = new Memcached(process.argv[2]);
  assert.strictEqual(await promisify(other.get).call(other, 'large'), undefined);
  other.end();
}

main().then(
  () => { console.log('passed'); process.exit(0); },
  (error) => { console.error(error); process.exit(1); },
);
