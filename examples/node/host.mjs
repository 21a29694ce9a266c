// A host for step.onnx or decision.onnx that knows nothing of spikes: feed every memory.<name>.out back to its .in.
//
//     npm install --ignore-scripts
//     node host.mjs run/cheetah/step.onnx < observations.json > actions.json    # [[…], […], …], one row per decision
import { readFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-node";

const options = { intraOpNumThreads: 1, interOpNumThreads: 1 };
const session = await InferenceSession.create(process.argv[2], options);
const shapes = Object.fromEntries(session.inputMetadata.map(({ name, shape }) => [name, [1, ...shape.slice(1)]]));
const memories = session.inputNames.filter((name) => name.startsWith("memory."));
const size = (shape) => shape.reduce((a, b) => a * b, 1);
let memory;

function reset() {
  memory = {};
  for (const name of memories) memory[name] = new Tensor("float32", new Float32Array(size(shapes[name])), shapes[name]);
}

async function act(observation) {
  const obs = new Tensor("float32", Float32Array.from(observation.flat(Infinity)), shapes.obs);
  for (;;) {
    const out = await session.run({ obs, ...memory });
    for (const name of memories) memory[name] = out[name.replace(/in$/, "out")];
    const timestep = memory["memory.timestep.in"]; // 0 again when the decision is complete; decision.onnx has none
    if (!timestep || timestep.data[0] === 0) return Array.from(out.action.data, Number);
  }
}

reset();
const actions = [];
for (const observation of JSON.parse(readFileSync(0))) actions.push(await act(observation));
console.log(JSON.stringify(actions));
