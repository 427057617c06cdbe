//! Where settings come from, which wins, and what a mistake is told.

use std::path::{Path, PathBuf};

use habit_gateway::config::{Config, ConfigError, Sources};

#[expect(clippy::unwrap_used, reason = "cargo sets it for tests")]
fn sample() -> PathBuf {
    // Where it runs, not where it was built: build caches outlive clones.
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../deploy/habit.toml")
}

/// The configuration in a file of this content, with these variables.
#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn load(content: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("test.toml");
    std::fs::write(&file, content).unwrap();
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::load(&Sources {
        file: Some(file),
        env,
        flags: Vec::new(),
    })
}

fn wrong(content: &str, env: &[(&str, &str)]) -> String {
    load(content, env)
        .err()
        .map_or_else(|| "it was accepted".to_owned(), |error| error.to_string())
}

#[test]
fn the_sample_is_the_defaults() {
    let config = Config::load(&Sources {
        file: Some(sample()),
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn the_sample_has_every_field() {
    let text = std::fs::read_to_string(sample()).unwrap();
    let defaults = serde_json::to_value(Config::default()).unwrap();
    for (section, fields) in defaults.as_object().unwrap() {
        if section == "upstreams" {
            continue;
        }
        assert!(text.contains(&format!("[{section}]")), "[{section}] is missing");
        for (field, value) in fields.as_object().unwrap() {
            let line = match value {
                serde_json::Value::Object(_) => format!("[{section}.{field}]"),
                serde_json::Value::Null => format!("\n# {field} = "),
                _ => format!("\n{field} = "),
            };
            assert!(text.contains(&line), "{section}.{field} is missing");
        }
    }
}

#[test]
fn the_sample_has_every_field_of_an_upstream() {
    let text = std::fs::read_to_string(sample()).unwrap();
    let entry = text.split("# [[upstreams]]").nth(1).unwrap();
    let defaults = serde_json::to_value(habit_gateway::config::Upstream::default()).unwrap();
    for (field, value) in defaults.as_object().unwrap() {
        let line = entry.lines().find(|line| line.starts_with(&format!("# {field} = ")));
        let line = line.unwrap_or_else(|| panic!("upstreams.{field} is missing"));
        // Numbers are shown at their defaults.
        if let Some(number) = value.as_u64() {
            assert_eq!(line, format!("# {field} = {number}"));
        }
    }
}

#[test]
fn the_sample_works_with_everything_set() {
    let text = std::fs::read_to_string(sample()).unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some("[[upstreams]]") => "[[upstreams]]",
        // Given instead of the key.
        Some(rest) if rest.starts_with("key_env = ") => line,
        Some(rest) if rest.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ')) => rest,
        _ => line,
    });
    let all: Vec<&str> = lines.collect();
    let config = load(&all.join("\n"), &[]).unwrap();
    assert_eq!(config.upstreams[0].url, "http://127.0.0.1:8421");
    assert_eq!(config.aliases["fast"], "smollm2-135m-instruct");
    // The profile that is chosen there comes before the section.
    assert_eq!(config.engine.context_window, Some(2048));
}

#[test]
fn the_environment_wins_over_the_file() {
    let env = [
        ("HABIT_SERVER_BIND", "127.0.0.1:9"),
        ("HABIT_MEMORY_ON", "false"),
        ("HABIT_ENGINE_MAX_RUNNING", "7"),
        ("HABIT_UPSTREAM_URL", "http://127.0.0.1:1"),
        // A key of digits is still text.
        ("HABIT_UPSTREAM_KEY", "12345"),
        ("HABIT_ENGINE_CONTEXT_WINDOW", "512"),
        // These have other purposes.
        ("HABIT_KEY", "hb-x"),
        ("HABIT_TEST_MODEL", "/somewhere"),
        ("PATH", "/bin"),
    ];
    let config = load("[server]\nbind = '127.0.0.1:8'\n[engine]\nmax_waiting = 3\n", &env).unwrap();
    assert_eq!(config.server.bind.port(), 9);
    assert!(!config.memory.on);
    assert_eq!((config.engine.max_running, config.engine.max_waiting), (7, 3));
    assert_eq!(config.upstreams[0].key.as_ref().unwrap().expose(), "12345");
    assert_eq!(config.engine.context_window, Some(512));
}

#[test]
fn an_unknown_field_is_named_with_the_nearest_right_one() {
    let error = wrong("[server]\nbnd = '127.0.0.1:8'\n", &[]);
    assert!(
        error.contains("test.toml") && error.contains("`server.bnd`") && error.contains("`server.bind`"),
        "{error}"
    );
    let error = wrong("[sever]\nbind = '127.0.0.1:8'\n", &[]);
    assert!(
        error.contains("`sever.bind`") && error.contains("`server.bind`"),
        "{error}"
    );
    // The right name in the wrong section.
    let error = wrong("[server]\nmax_running = 1\n", &[]);
    assert!(
        error.contains("`server.max_running`") && error.contains("`engine.max_running`"),
        "{error}"
    );
    let error = wrong("[[upstreams]]\nurll = 'http://x'\n", &[]);
    assert!(error.contains("`upstreams.url`"), "{error}");
    let error = wrong("", &[("HABIT_MEMORY_TOKEN", "5")]);
    assert!(
        error.contains("HABIT_MEMORY_TOKEN") && error.contains("`memory.tokens`"),
        "{error}"
    );
    // Nothing is near: nothing is guessed.
    let error = wrong("[server]\nxyzzy_plugh = 1\n", &[]);
    assert!(!error.contains("did you mean"), "{error}");
}

#[test]
fn a_bad_value_is_named_with_where_it_was_set() {
    let error = wrong("[memory]\nrecalled = 'many'\n", &[]);
    assert!(
        error.contains("test.toml") && error.contains("`memory.recalled`"),
        "{error}"
    );
    let error = wrong("[server]\nbind = 'nowhere'\n", &[]);
    assert!(error.contains("`server.bind`"), "{error}");
    let error = wrong("", &[("HABIT_ENGINE_THREADS", "-1")]);
    assert!(
        error.contains("HABIT_ENGINE_THREADS") && error.contains("`engine.threads`"),
        "{error}"
    );
    let error = wrong("server = 1\n", &[]);
    assert!(error.contains("`server`") && error.contains("[server]"), "{error}");
    let error = wrong("[memory]\nrecalled = 11\n", &[]);
    assert!(error.contains("`memory.recalled`") && error.contains("10"), "{error}");
    let error = wrong("[[upstreams]]\nurl = 'localhost:1'\n", &[]);
    assert!(
        error.contains("`upstreams.url`") && error.contains("http://"),
        "{error}"
    );
    let error = wrong("[server\n", &[]);
    assert!(error.contains("test.toml") && error.contains("TOML"), "{error}");
}

#[test]
fn without_keys_it_stays_on_this_machine() {
    assert!(load("[auth]\nrequired = false\n", &[]).is_ok());
    let error = wrong("[auth]\nrequired = false\n[server]\nbind = '0.0.0.0:8420'\n", &[]);
    assert!(
        error.contains("auth.required") && error.contains("0.0.0.0:8420"),
        "{error}"
    );
}

#[test]
fn secrets_are_not_printed() {
    let config = load("[[upstreams]]\nurl = 'http://127.0.0.1:1'\nkey = 'very-secret'\n", &[]).unwrap();
    assert!(!format!("{config:?}").contains("very-secret"));
    let error = wrong("[[upstreams]]\nkey = ['very-secret']\n", &[]);
    assert!(!error.contains("very-secret"), "{error}");
}

#[test]
fn the_databases_password_is_not_printed() {
    let variable = [("HABIT_DATA_DATABASE", "postgres://ann:hunter2@db.example/habit")];
    let config = load("", &variable).unwrap();
    assert_eq!(config.data.database.as_ref().unwrap().expose(), variable[0].1);
    assert!(!format!("{config:?}").contains("hunter2"));
    for bad in ["mysql://ann:hunter2@h/d", "habit.db", "ann:hunter2@h"] {
        let error = wrong("", &[("HABIT_DATA_DATABASE", bad)]);
        assert!(
            error.contains("data.database") && error.contains("postgres://user:password@host/name"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = wrong("[data]\ndatabase = 1234\n", &[]);
    assert!(error.contains("data.database") && !error.contains("1234"), "{error}");
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let sources = Sources {
        file: Some("/nonexistent/habit.toml".into()),
        ..Sources::default()
    };
    let error = Config::load(&sources).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/habit.toml"), "{error}");
}

#[test]
fn the_data_directorys_file_is_read_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().display().to_string();
    let sources = Sources {
        env: vec![("HABIT_DATA_DIR".to_owned(), data)],
        ..Sources::default()
    };
    assert_eq!(Config::load(&sources).unwrap().memory.tokens, 2000);
    std::fs::write(dir.path().join("habit.toml"), "[memory]\ntokens = 5\n").unwrap();
    assert_eq!(Config::load(&sources).unwrap().memory.tokens, 5);
    std::fs::write(dir.path().join("habit.toml"), "[data]\ndir = '/elsewhere'\n").unwrap();
    let error = Config::load(&sources).unwrap_err().to_string();
    assert!(error.contains("`data.dir`") && error.contains("--data-dir"), "{error}");
}

#[test]
fn a_profile_is_taken_before_the_section_and_after_flags() {
    let file = r#"
        [engine]
        model = "one"
        threads = 3
        [profiles.code-8bit]
        model = "coder"
        bits = 8
        context_window = 2048
    "#;
    let config = load(&format!("{file}\n"), &[("HABIT_ENGINE_PROFILE", "code-8bit")]).unwrap();
    let engine = &config.engine;
    assert_eq!(
        (
            engine.model.as_str(),
            engine.bits,
            engine.context_window,
            engine.threads
        ),
        ("coder", Some(8), Some(2048), 3)
    );
    let beside = load(file, &[]).unwrap();
    assert_eq!(beside.engine.model, "one");
    assert_eq!(beside.profiles["code-8bit"].over(&beside.engine).model, "coder");
}

#[test]
fn wrong_profiles_are_named() {
    let file = "[profiles.a]\nmodel = \"x\"\n";
    let error = wrong(file, &[("HABIT_ENGINE_PROFILE", "b")]);
    assert!(
        error.contains("engine.profile") && error.contains("there are a"),
        "{error}"
    );
    let error = wrong("[profiles.a]\nbits = 5\n", &[]);
    assert!(error.contains("profiles.a.bits"), "{error}");
    let error = wrong("[profiles.a]\nmodle = \"x\"\n", &[]);
    assert!(error.contains("modle"), "{error}");
}

#[test]
fn wrong_upstreams_are_named() {
    for (entry, says) in [
        ("url = 'http://a'\nweight = 0", "`upstreams.weight`"),
        ("url = 'http://a'\nkind = 'vllmm'", "kind"),
        ("url = 'http://a'\nkey = 'x'\nkey_env = 'Y'", "`upstreams.key_env`"),
        ("url = 'http://a'\nsilence_s = 0", "`upstreams.silence_s`"),
        ("url = 'http://a'\nmodels = ['a = ']", "`upstreams.models`"),
        ("name = 'no url'", "`upstreams.url`"),
        ("url = 'http://a'\n[[upstreams]]\nurl = 'http://a'", "`upstreams.name`"),
    ] {
        let error = wrong(&format!("[[upstreams]]\n{entry}\n"), &[]);
        assert!(error.contains(says), "{entry}: {error}");
    }
    let config = load("[[upstreams]]\nurl = 'http://a'\nmodels = ['x', 'y = z/y:1']\n", &[]).unwrap();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(config.upstreams[0].named_models(), [pair("x", "x"), pair("y", "z/y:1")]);
}
