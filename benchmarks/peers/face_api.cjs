// Seven expressions of face-api for square gray crops, for benchmarks/expression.py.
//   node face_api.cjs CROPS.bin SIZE   (u8, one crop of SIZE x SIZE after the other; run where node_modules has
//   @vladmandic/face-api, @tensorflow/tfjs and @tensorflow/tfjs-backend-wasm)
// Prints one JSON object a line: probability by expression.
const fs = require("fs");
const path = require("path");
const { createRequire } = require("module");

const here = createRequire(path.join(process.cwd(), "package.json"));
const tf = here("@tensorflow/tfjs");
const wasm = here("@tensorflow/tfjs-backend-wasm");
const home = path.dirname(here.resolve("@vladmandic/face-api/package.json"));
const faceapi = here(path.join(home, "dist", "face-api.node-wasm.js"));

async function main() {
  const [file, size] = [process.argv[2], Number(process.argv[3])];
  wasm.setWasmPaths(path.join(path.dirname(here.resolve("@tensorflow/tfjs-backend-wasm/package.json")), "dist") + "/");
  await faceapi.tf.setBackend("wasm");
  await faceapi.tf.ready();
  await faceapi.nets.faceExpressionNet.loadFromDisk(path.join(home, "model"));
  const bytes = fs.readFileSync(file);
  for (let start = 0; start < bytes.length; start += size * size) {
    const gray = bytes.subarray(start, start + size * size);
    const rgb = new Int32Array(3 * gray.length);
    for (let i = 0; i < gray.length; i++) rgb.fill(gray[i], 3 * i, 3 * i + 3);
    const picture = faceapi.tf.tensor3d(rgb, [size, size, 3], "int32");
    const said = await faceapi.nets.faceExpressionNet.predictExpressions(picture);
    process.stdout.write(JSON.stringify(said) + "\n");
    picture.dispose();
  }
}

main().catch((error) => { console.error(error); process.exit(1); });
