// What the JavaScript files of this folder share. Modules are found where the runner installed them.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import path from "node:path";

export const base = process.env.OPENAI_BASE_URL;
export const key = process.env.OPENAI_API_KEY;
export const alone = { "X-Habit-Memory": "off" };

const installed = createRequire(path.join(process.env.HABIT_SDK_DIR, "package.json"));
export const load = (name) => import(pathToFileURL(installed.resolve(name)).href);

export function assert(truth, ...shown) {
  if (!truth) throw new Error("not so: " + shown.map((one) => JSON.stringify(one)).join(" "));
}

export async function refused(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("it was not refused");
}

export async function main(checks) {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log("ok", name);
    } catch (error) {
      failed += 1;
      console.log("FAILED", name, error);
    }
  }
  console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}
