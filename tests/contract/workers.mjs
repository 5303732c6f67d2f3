// Worker threads, a child that is waited for, timers, WebAssembly memory and shared memory.
import { spawnSync } from "node:child_process";
import { Worker } from "node:worker_threads";
import { setTimeout as sleep } from "node:timers/promises";

const source = `const { parentPort, workerData } = require("node:worker_threads");
Atomics.add(new Int32Array(workerData), 0, 20); parentPort.postMessage("done");`;
const shared = new SharedArrayBuffer(4);
await Promise.all([1, 2].map(() => new Promise((resolve, reject) => {
  const worker = new Worker(source, { eval: true, workerData: shared });
  worker.once("message", resolve);
  worker.once("error", reject);
})));
console.log("workers", new Int32Array(shared)[0]);

const child = spawnSync(process.execPath, ["-e", "process.stdout.write('child')"]);
console.log(child.error ? String(child.error) : child.stdout.toString(), child.status);

await sleep(10);
console.log("timer");

const memory = new WebAssembly.Memory({ initial: 16, maximum: 65536 });
memory.grow(1024);
new Uint8Array(memory.buffer)[70000000 - 3000000] = 1;
const add = new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 7, 1, 3, 97, 100, 100, 0, 0,
  10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11]))).exports.add;
console.log("wasm", add(40, 2), memory.buffer.byteLength / 65536);
