//! What a configuration may say and what it may not.

use clap::Parser as _;

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: ServeArguments,
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The arguments of a command line, whatever the variables of whoever runs the tests say.
fn arguments(flags: &[&str]) -> ServeArguments {
    let mut arguments = Line::try_parse_from(["serve"].iter().chain(flags)).unwrap().arguments;
    if !flags.contains(&"--database-url") {
        arguments.database_url = None;
    }
    arguments.data_dir = Some(PathBuf::from("/srv/books"));
    arguments
}

fn refusal(flags: &[&str]) -> String {
    Config::build(&arguments(flags)).unwrap_err().to_string()
}

#[test]
fn the_embedded_default_is_open_and_makes_its_own_secret() {
    let config = Config::build(&arguments(&[])).unwrap();
    assert_eq!(config.listen, DEFAULT_LISTEN.parse().unwrap());
    assert_eq!(config.metrics_listen, Some(DEFAULT_METRICS_LISTEN.parse().unwrap()));
    assert!(config.open_health && config.open_reflection);
    assert_eq!(config.operator_token, Some(PathBuf::from("/srv/books/operator.jwt")));
    assert!(matches!(
        &config.tokens.secret,
        SecretSource::OwnFile(path) if path == Path::new("/srv/books/secret")
    ));
    assert!(matches!(&config.database, DatabaseChoice::Embedded(_)));
}

#[test]
fn a_given_database_is_closed_and_needs_a_given_secret() {
    let flags = ["--database-url", "postgres://books@db.example/books"];
    assert!(refusal(&flags).contains("--jwt-secret-file"));
    let with_secret = [flags.as_slice(), &["--jwt-secret", SECRET]].concat();
    let config = Config::build(&arguments(&with_secret)).unwrap();
    assert!(!config.open_health && !config.open_reflection);
    assert_eq!(config.operator_token, None);
    let with_health = [with_secret.as_slice(), &["--open", "health"]].concat();
    let config = Config::build(&arguments(&with_health)).unwrap();
    assert!(config.open_health && !config.open_reflection);
}

#[test]
fn nothing_that_is_refused_or_printed_holds_a_password() {
    for url in [
        "postgres://books:hunter2@db.example:port/books",
        "mysql://books:hunter2@db.example/books",
        "books:hunter2",
        "postgres://books:hunter2@db.example/books?sslmode=hunter2",
    ] {
        let text = refusal(&["--jwt-secret", SECRET, "--database-url", url]);
        assert!(text.contains("DATABASE_URL"), "{text}");
        assert!(!text.contains(":hunter2"), "{text}");
    }
    let good = "postgres://books:hunter2@db.example/books";
    let config =
        Config::build(&arguments(&["--jwt-secret", SECRET, "--database-url", good])).unwrap();
    let text = format!("{config:?}");
    assert!(!text.contains("hunter2") && !text.contains(SECRET), "{text}");
}

#[test]
fn what_makes_no_sense_is_refused_with_its_remedy() {
    assert!(refusal(&["--metrics-listen", "everywhere"]).contains("127.0.0.1:9464, or off"));
    assert!(refusal(&["--jwt-secret", "short"]).contains("at least 32"));
    assert!(refusal(&["--jwt-secret", SECRET, "--jwt-secret-file", "x"]).contains("keep one"));
    assert!(refusal(&["--jwt-secret-file", "/nowhere/secret"]).contains("cannot be read"));
}

#[test]
fn metrics_can_be_off() {
    let flags = ["--metrics-listen", "off"];
    assert_eq!(Config::build(&arguments(&flags)).unwrap().metrics_listen, None);
}

#[test]
fn a_grants_lifetime_and_grace_have_bounds() {
    let config = Config::build(&arguments(&[])).unwrap();
    assert_eq!(config.lifetime, Lifetime::default());
    let flags = ["--authorization-lifetime", "1h", "--settlement-grace", "1s"];
    let config = Config::build(&arguments(&flags)).unwrap();
    assert_eq!(config.lifetime.promise(), Duration::from_secs(3_601));
    for (flag, value) in [
        ("--authorization-lifetime", "0s"),
        ("--authorization-lifetime", "61m"),
        ("--authorization-lifetime", "15"),
        ("--authorization-lifetime", "+15m"),
        ("--authorization-lifetime", "m"),
        ("--settlement-grace", "0s"),
        ("--settlement-grace", "11m"),
        ("--settlement-grace", "99999999999999999999h"),
    ] {
        let line = Line::try_parse_from(["serve", flag, value]);
        let refusal = line.err().unwrap().to_string();
        assert!(refusal.contains(flag) && refusal.contains(value), "{refusal}");
    }
}

#[test]
fn other_machines_are_served_in_plaintext_only_where_it_is_said() {
    let tls = ["--tls-certificate", "/a.pem", "--tls-key", "/a.key"];
    let allow = ["--allow-plaintext-beyond-loopback"];
    let calls = ["--listen", "10.0.0.1:50051"];
    let metrics = ["--metrics-listen", "[::]:9464"];
    for (flags, expected) in [
        ([calls.as_slice(), &[]].concat(), Some("--listen 10.0.0.1:50051")),
        ([calls.as_slice(), &tls].concat(), None),
        ([calls.as_slice(), &allow].concat(), None),
        ([metrics.as_slice(), &[]].concat(), Some("--metrics-listen [::]:9464")),
        // The certificate is for calls alone.
        ([metrics.as_slice(), &tls].concat(), Some("--metrics-listen [::]:9464")),
        ([metrics.as_slice(), &tls, &allow].concat(), None),
        (vec!["--listen", "[::1]:1", "--metrics-listen", "127.0.0.2:1"], None),
    ] {
        match (Config::build(&arguments(&flags)), expected) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) => {
                let refusal = error.to_string();
                assert!(refusal.starts_with(expected), "{refusal}");
                assert!(refusal.contains("--allow-plaintext-beyond-loopback"), "{refusal}");
            }
            (outcome, _) => panic!("{flags:?}: {outcome:?}"),
        }
    }
}

#[test]
fn a_secret_is_given_once_and_so_is_the_one_before_it() {
    let both = ["--jwt-previous-secret", SECRET, "--jwt-previous-secret-file", "/a"];
    assert!(refusal(&both).contains("TOLLGATE_JWT_PREVIOUS_SECRET_FILE"));
    let config = Config::build(&arguments(&["--jwt-previous-secret", SECRET])).unwrap();
    assert!(config.tokens.previous_secret.is_some());
    assert!(!format!("{config:?}").contains(SECRET));
}

#[test]
fn details_are_kept_for_whole_days_within_bounds_or_until_they_are_erased() {
    assert_eq!(Config::build(&arguments(&[])).unwrap().details_retention_days, None);
    for (text, days) in [("1d", 1), ("400d", 400), ("3650d", 3650)] {
        let config = Config::build(&arguments(&["--details-retention", text])).unwrap();
        assert_eq!(config.details_retention_days, Some(days));
    }
    for text in ["0d", "3651d", "400", "d", "-1d", "+1d", "1.5d", "400h", "99999999d"] {
        let line = ["serve", "--details-retention", text];
        assert!(Line::try_parse_from(line).is_err(), "{text} was taken");
    }
}
