// mqtt.js, unmodified, as a child's program at gatewayd's broker; driven by JSON lines.
//
// {"do": "publish", "topic": …, "payloads": […]}   →   {"ok": how many were acknowledged}
// {"do": "ask", "topic": …, "response": …, "payload": …}   →   {"ok": [receipt, correlation data]}
'use strict';

const readline = require('readline');
const mqtt = require('mqtt');

let facts;
let client;

const verbs = {
  async connect({ version }) {
    client = await mqtt.connectAsync({
      host: '127.0.0.1',
      port: facts.port,
      username: facts.user,
      password: facts.password,
      protocolVersion: version,
    });
    return 'connect';
  },

  async publish({ topic, payloads }) {
    const sent = payloads.map((payload) => client.publishAsync(topic, payload, { qos: 1 }));
    return (await Promise.all(sent)).length;
  },

  async ask({ topic, response, payload }) {
    await client.subscribeAsync(response, { qos: 1 });
    const receipt = new Promise((resolve) => {
      client.once('message', (_topic, body, packet) => {
        resolve([body.toString(), packet.properties.correlationData.toString()]);
      });
    });
    const properties = { responseTopic: response, correlationData: Buffer.from('7') };
    await client.publishAsync(topic, payload, { qos: 1, properties });
    return receipt;
  },
};

async function serve() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    if (!facts) {
      facts = request;
      continue;
    }
    let answer;
    try {
      answer = { ok: await verbs[request.do](request) };
    } catch (error) {
      answer = { error: String(error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  process.exit(0);
}

serve();
