//! What `serve` and `worker` say when they are ready: everything that is needed to go on, to be pasted.

use std::fmt::Write;

use habit_engine::ModelInfo;

/// What a gateway says. `key` is there only if it was made just now.
#[must_use]
pub fn gateway(url: &str, models: &[ModelInfo], key: Option<&str>, auth: bool) -> String {
    let names: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
    let mut text = format!(
        "\nHabit {} serves {} at\n\n    {url}/v1\n",
        env!("CARGO_PKG_VERSION"),
        names.join(", ")
    );
    match (auth, key) {
        (true, Some(key)) => {
            // Writing to a string never fails.
            let _ = write!(
                text,
                "\nYour key (team `default`, user `me`). It is shown this once:\n\n    {key}\n"
            );
            text += &snippets(url, key);
        }
        (true, None) => text += "\nIt asks for a key. Another one:\n\n    habit keys create --team default --user me\n",
        (false, _) => {
            text += "\nIt asks for no key (--no-auth): every program on this machine may use it.\n";
            text += &snippets(url, "none");
        }
    }
    text + "\nIn another terminal: `habit chat`, `habit ingest FILE`. Ctrl-C stops it.\n"
}

/// What a worker says.
#[must_use]
pub fn worker(url: &str, models: &[ModelInfo], auth: bool) -> String {
    let names: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
    let key = if auth { " --upstream-key KEY" } else { "" };
    format!(
        "\nThis worker runs {} at\n\n    {url}/v1\n\nA gateway in front of it:\n\n    habit serve --upstream {url}{key}\n\n\
         Ctrl-C stops it.\n",
        names.join(", ")
    )
}

fn snippets(url: &str, key: &str) -> String {
    format!(
        r#"
Try it with curl:

    curl {url}/v1/chat/completions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \
      -d '{{"messages": [{{"role": "user", "content": "My dog is called Biscuit."}}], "max_tokens": 60, "temperature": 0}}'

or from Python (pip install openai):

    from openai import OpenAI
    client = OpenAI(base_url="{url}/v1", api_key="{key}")
    reply = client.chat.completions.create(model="default", messages=[{{"role": "user", "content": "What is my dog called?"}}], max_tokens=60, temperature=0)
    print(reply.choices[0].message.content)
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_shown_when_it_is_new_and_only_then() {
        let first = gateway("http://127.0.0.1:1", &[], Some("hb-1-2"), true);
        assert!(first.contains("hb-1-2") && first.contains("curl http://127.0.0.1:1/v1") && first.contains("OpenAI("));
        let later = gateway("http://127.0.0.1:1", &[], None, true);
        assert!(!later.contains("hb-") && later.contains("habit keys create"));
    }
}
