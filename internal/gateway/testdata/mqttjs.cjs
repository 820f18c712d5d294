// One bad message ahead of 1,000 good ones, from MQTT.js with a persistent
// session. Prints {acked, refused, connects} when every one has its answer.
const fs = require('fs')
const mqtt = require(process.env.MQTTJS)
const version = Number(process.env.MQTT_VERSION)
const bytes = Number(process.env.MQTT_BYTES)
let connects = 0, acked = 0, refused = 0
const client = mqtt.connect(process.env.MQTT_URL, {
  ca: fs.readFileSync(process.env.MQTT_CA), cert: fs.readFileSync(process.env.MQTT_CERT), key: fs.readFileSync(process.env.MQTT_KEY),
  protocolVersion: version, clientId: 'js', clean: false, reconnectPeriod: 50,
  properties: version === 5 ? { sessionExpiryInterval: 600 } : undefined,
})
client.on('connect', () => { connects++ })
client.on('error', (e) => { console.error(e.message) })
const done = (err) => {
  if (err) refused++; else acked++
  if (acked + refused === 1001) {
    client.end(false, {}, () => { console.log(JSON.stringify({ acked, refused, connects })); process.exit(0) })
  }
}
client.publish('telemetry/light', bytes ? Buffer.alloc(bytes) : 'not JSON', { qos: 1 }, done)
for (let i = 0; i < 1000; i++) {
  client.publish('telemetry/light', JSON.stringify({ level: i, boot: 1, seq: i }), { qos: 1 }, done)
}
setTimeout(() => { console.error('timed out', acked, refused, connects); process.exit(1) }, 30000)
