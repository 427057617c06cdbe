// What Anthropic's JavaScript SDK sees.
import { alone, assert, base, key, load, main, refused } from "./checks.mjs";

const { default: Anthropic } = await load("@anthropic-ai/sdk");
const client = new Anthropic({ baseURL: base.replace(/\/v1$/, ""), apiKey: key, defaultHeaders: alone, maxRetries: 0 });
const brief = { model: "default", max_tokens: 16, messages: [{ role: "user", content: "Say hello." }] };

main({
  async aMessageIsAnswered() {
    const made = await client.messages.create(brief);
    assert(made.content[0].text && made.usage.output_tokens > 0, made);
  },

  async aStreamIsPutTogether() {
    const stream = client.messages.stream(brief);
    let text = "";
    stream.on("text", (piece) => (text += piece));
    const final = await stream.finalMessage();
    assert(text && final.content[0].text === text && final.stop_reason, final);
  },

  async aToolIsUsed() {
    const schema = { type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"], additionalProperties: false };
    const stream = client.messages.stream({ ...brief, max_tokens: 80, tools: [{ name: "weather", input_schema: schema }], tool_choice: { type: "tool", name: "weather" } });
    const final = await stream.finalMessage();
    assert(final.content.some((block) => block.type === "tool_use" && block.input.city !== undefined), final);
  },

  async anErrorHasItsStatus() {
    const error = await refused(() => client.messages.create({ ...brief, model: "no-such-model" }));
    assert(error.status === 404 && error.error.error.type === "not_found_error", error);
  },
});
