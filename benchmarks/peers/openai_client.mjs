// Ask a server through JavaScript's openai: openai_client.mjs PACKAGES ADDRESS FILE; FILE gets what it found.
// PACKAGES is a folder with node_modules. The server has an adapter `north`, and a base with a chat template.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const [packages, address, file] = process.argv.slice(2);
const require = createRequire(`${packages}/`);
const { OpenAI, NotFoundError, UnprocessableEntityError } = require("openai");
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "none", maxRetries: 0 });
const chat = { model: "base", messages: [{ role: "user", content: "Rain?" }], max_tokens: 6, ignore_eos: true };

async function streamed() {
  let text = "";
  for await (const event of await client.chat.completions.create({ ...chat, stream: true })) {
    text += event.choices[0]?.delta?.content ?? "";
  }
  return text;
}

async function errorOf(call) {
  try {
    await call();
  } catch (error) {
    return [error instanceof NotFoundError, error instanceof UnprocessableEntityError, error.status, error.param];
  }
  return null;
}

const models = [];
for await (const model of client.models.list()) models.push(model.id);
const whole = await client.chat.completions.create(chat);
const completion = await client.completions.create({ model: "north", prompt: "ab", max_tokens: 6 });
const found = {
  version: JSON.parse(readFileSync(`${packages}/node_modules/openai/package.json`)).version,
  models,
  whole: whole.choices[0].message.content,
  streamed: await streamed(),
  completion: completion.choices[0].text,
  errors: {
    model: await errorOf(() => client.chat.completions.create({ ...chat, model: "east" })),
    field: await errorOf(() => client.chat.completions.create({ ...chat, colour: 1 })),
  },
};
writeFileSync(file, JSON.stringify(found));
