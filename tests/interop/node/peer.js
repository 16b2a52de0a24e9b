// The Alibaba vendor's SDK for Node.js, unmodified, driven by JSON lines; run by node.
//
// {"do": "connect", "product": …, "device": …, "secret": …}   →   {"ok": …}   or   {"error": …}
'use strict';

const readline = require('readline');
const iot = require('alibabacloud-iot-device-sdk');

const PATIENCE = 60000;

let facts;
let thing; // the device, or the gateway
const children = {}; // sub-devices by name
const received = []; // what came unasked
const waiting = [];

function receive(what) {
  if (waiting.length) waiting.shift()(what);
  else received.push(what);
}

function next() {
  if (received.length) return Promise.resolve(received.shift());
  return new Promise((resolve) => waiting.push(resolve));
}

// Returns what a callback of the SDK gets.
function called(call) {
  return new Promise((resolve) => call(resolve));
}

const verbs = {
  register({ product, device, key }) {
    const registerURL = `https://127.0.0.1:${facts.https_port}/auth/register/device`;
    const fields = { productKey: product, productSecret: key, deviceName: device, registerURL };
    return called((done) => iot.register(fields, done));
  },

  connect({ product, device, secret, gateway }) {
    const make = gateway ? iot.gateway : iot.device;
    thing = make({
      productKey: product,
      deviceName: device,
      deviceSecret: secret,
      brokerUrl: `mqtts://127.0.0.1:${facts.port}`,
      tls: true,
    });
    thing.on('error', () => {}); // what it says comes out of the first event
    return new Promise((resolve) => {
      thing.once('connect', () => resolve('connect'));
      thing.once('error', (error) => resolve(String(error)));
    });
  },

  register_sub: ({ devices }) => called((done) => thing.regiestSubDevice(devices, done)),
  add_topo: ({ devices }) => called((done) => thing.addTopo(devices, done)),
  get_topo: () => called((done) => thing.getTopo(done)),
  remove_topo: ({ devices }) => called((done) => thing.removeTopo(devices, done)),
  logout: ({ device }) => called((done) => thing.logout(device, done)),

  login({ device }) {
    return called((done) => {
      const child = thing.login(device, done);
      child.on('error', () => {});
      children[device.deviceName] = child;
    });
  },

  post_props: ({ child, values }) => called((done) => of(child).postProps(values, done)),
  post_event: ({ child, event, values }) =>
    called((done) => of(child).postEvent(event, values, done)),

  // Keeps the properties that the cloud sets.
  on_props({ child }) {
    of(child).onProps((message) => receive(message));
    return null;
  },

  // Answers a service, which is asynchronous unless `how` is "sync".
  on_service({ child, service, answer, how }) {
    of(child).onService(service, (message, reply) => {
      receive(message);
      reply({ id: message.id, code: 200, data: answer }, how);
    });
    return null;
  },

  wait: () => next(),
};

function of(child) {
  return child ? children[child] : thing;
}

function limited(promise) {
  const late = new Promise((_, reject) =>
    setTimeout(() => reject(new Error('nothing came')), PATIENCE).unref());
  return Promise.race([promise, late]);
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    if (facts === undefined) {
      facts = request;
      continue;
    }
    let answer;
    try {
      answer = { ok: await limited(verbs[request.do](request)) };
    } catch (error) {
      answer = { error: String(error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  process.exit(0);
}

main();
