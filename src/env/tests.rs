//! Properties and tables of the six formats.

use proptest::prelude::*;

use super::*;
use crate::desired::CeleryAlias;

fn parts(host: &str) -> PartNames {
    PartNames {
        host: host.into(),
        port: "REDIS_PORT".into(),
        tls: "REDIS_TLS".into(),
        password: "REDIS_PASSWORD".into(),
    }
}

fn celery(ssl_cert_reqs: SslCertReqs) -> EnvFormat {
    let alias = |name: &str, listed| CeleryAlias { name: name.into(), listed };
    EnvFormat::Celery {
        url: "REDIS_URL".into(),
        aliases: vec![alias(CELERY_VARIABLES[0], true), alias(CELERY_VARIABLES[1], false)],
        ssl_cert_reqs,
    }
}

fn template(entries: &[(&str, &str)]) -> EnvFormat {
    EnvFormat::Template(entries.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect())
}

fn formats() -> Vec<EnvFormat> {
    vec![
        EnvFormat::Url { url: "REDIS_URL".into() },
        EnvFormat::UrlImplicitTls { url: "REDIS_URL".into() },
        celery(SslCertReqs::Omit),
        celery(SslCertReqs::Required),
        celery(SslCertReqs::None),
        EnvFormat::EndpointPortTls(parts("REDIS_ENDPOINT")),
        EnvFormat::HostPortPassword(parts("REDIS_HOST")),
        template(&[("A", "{url}")]),
        template(&[("A", "rediss://{user}:{password}@{host}:{port}/{db}")]),
        template(&[("A", "{host}:{port}"), ("B", "{password}"), ("C", "{tls}"), ("D", "{db}"), ("E", "u={user}")]),
    ]
}

fn address(host: &str, tls: bool) -> Address {
    Address { host: host.into(), port: 6379, db: 0, user: None, tls }
}

fn values(rendered: &BTreeMap<String, Rendered>) -> BTreeMap<String, String> {
    rendered.iter().map(|(name, rendered)| (name.clone(), reveal(rendered).to_owned())).collect()
}

fn shown(format: &EnvFormat, present: &[&str], address: &Address, password: Option<&str>) -> BTreeMap<String, String> {
    let present = present.iter().map(|name| (*name).to_owned()).collect();
    values(&render(format, &present, address, password, is_upstash(&address.host)))
}

#[test]
fn the_values_are_those_of_the_runbooks() {
    let upstash = address("x.upstash.io", true);
    let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let [url, implicit, ..] = &formats()[..] else { panic!() };
    assert_eq!(shown(url, &[], &upstash, Some("p@s")), one("REDIS_URL", "rediss://default:p%40s@x.upstash.io:6379/0"));
    assert_eq!(shown(implicit, &[], &upstash, Some("p")), one("REDIS_URL", "redis://default:p@x.upstash.io:6379"));
    assert_eq!(shown(url, &[], &address("red-abc123", false), None), one("REDIS_URL", "redis://red-abc123:6379/0"));
    assert_eq!(
        shown(url, &[], &address("m.x.cache.amazonaws.com", true), Some("t")),
        one("REDIS_URL", "rediss://:t@m.x.cache.amazonaws.com:6379/0")
    );
}

#[test]
fn celery_variables_are_written_where_present_or_listed_and_share_one_secret() {
    let format = celery(SslCertReqs::Required);
    let upstash = address("x.upstash.io", true);
    assert_eq!(
        shown(&format, &[], &upstash, Some("p")).into_keys().collect::<Vec<_>>(),
        ["CELERY_BROKER_URL", "REDIS_URL"]
    );
    let all = render(&format, &names(&format).into_iter().collect(), &upstash, Some("p"), true);
    assert_eq!(all.len(), 3);
    for rendered in all.values() {
        assert_eq!(reveal(rendered), "rediss://default:p@x.upstash.io:6379/0?ssl_cert_reqs=required");
        assert_eq!(rendered.secret_key, "REDIS_URL");
    }
    let plain = shown(&format, &[], &address("h", false), None);
    assert_eq!(plain["REDIS_URL"], "redis://h:6379/0", "ssl_cert_reqs means nothing without TLS");
}

#[test]
fn parts_say_tls_where_the_app_needs_the_word() {
    let private = address("m.x.cache.amazonaws.com", false);
    let endpoint = shown(&EnvFormat::EndpointPortTls(parts("REDIS_ENDPOINT")), &[], &private, None);
    assert_eq!(endpoint["REDIS_TLS"], "false");
    assert!(!endpoint.contains_key("REDIS_PASSWORD"));
    let host = shown(&EnvFormat::HostPortPassword(parts("REDIS_HOST")), &[], &private, Some("p"));
    assert_eq!(host.keys().collect::<Vec<_>>(), ["REDIS_HOST", "REDIS_PASSWORD", "REDIS_PORT"]);
}

#[test]
fn what_a_format_cannot_say_is_refused() {
    let implicit = EnvFormat::UrlImplicitTls { url: "REDIS_URL".into() };
    let elasticache = address("master.x.abc.use1.cache.amazonaws.com", true);
    assert_eq!(fits(&implicit, &elasticache), Err(Misfit::ImplicitTls { host: elasticache.host.clone() }));
    assert_eq!(fits(&implicit, &address("x.upstash.io", true)), Ok(()));
    assert!(fits(&implicit, &address("evil-upstash.io", true)).is_err());
    assert_eq!(fits(&implicit, &address("h", false)), Ok(()));
    let hosts = EnvFormat::HostPortPassword(parts("REDIS_HOST"));
    assert_eq!(
        fits(&hosts, &Address { db: 3, ..address("h", true) }),
        Err(Misfit::Database { format: "HostPortPassword", db: 3 })
    );
    let user = Address { user: Some("app".into()), ..address("h", true) };
    assert!(fits(&hosts, &user).unwrap_err().to_string().contains("the user app"));
    assert_eq!(fits(&EnvFormat::Url { url: "REDIS_URL".into() }, &user), Ok(()));
}

#[test]
fn leftovers_that_point_elsewhere_are_rivals() {
    let (to, old) = (address("new", true), address("old", false));
    let same_place = Address { tls: false, db: 4, ..to.clone() };
    let variables = [
        ("REDIS_URL", Some(&old)),
        ("CELERY_BROKER_URL", Some(&old)),
        ("CELERY_RESULT_BACKEND", Some(&same_place)),
        ("REDIS_HOST", None),
        ("REDIS_PORT", None),
        ("CACHE_URL", Some(&old)),
    ];
    let found = rivals(&EnvFormat::Url { url: "REDIS_URL".into() }, variables, &to);
    assert_eq!(
        found,
        [
            Rival { variable: "CELERY_BROKER_URL".into(), address: Some(old) },
            Rival { variable: "REDIS_HOST".into(), address: None }
        ]
    );
}

#[test]
fn a_host_variable_points_where_its_neighbours_say() {
    let values: BTreeMap<String, String> = [
        ("REDIS_ENDPOINT", "OLD.example"),
        ("REDIS_PORT", "7000"),
        ("REDIS_HOST", "old.example"),
        ("SENTRY_DSN", "https://k@s/1"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    assert_eq!(pointed("REDIS_ENDPOINT", &values), Some(Address { port: 7000, ..address("old.example", true) }));
    assert_eq!(pointed("REDIS_HOST", &values), Some(Address { port: 7000, ..address("old.example", false) }));
    assert_eq!(pointed("SENTRY_DSN", &values), None);
    assert_eq!(pointed("REDIS_PORT", &values), None);
}

#[test]
fn templates_know_their_placeholders() {
    assert_eq!(Template::parse("{host}:{prt}"), Err(TemplateError::Unknown("prt".into())));
    assert_eq!(Template::parse("{host"), Err(TemplateError::Brace));
    assert_eq!(Template::parse("host}"), Err(TemplateError::Brace));
    let format = template(&[("A", "{{\"h\":\"{host}\"}}")]);
    assert_eq!(shown(&format, &[], &address("h", true), None)["A"], "{\"h\":\"h\"}");
}

#[test]
fn debug_output_never_shows_a_password() {
    for format in formats() {
        let present = names(&format).into_iter().collect();
        let rendered = render(&format, &present, &address("x.upstash.io", true), Some("canary"), true);
        assert!(!format!("{rendered:?}").contains("canary"), "{format:?}");
        let secrets = rendered.values().filter(|rendered| reveal(rendered).contains("canary"));
        assert!(secrets.clone().count() > 0 && secrets.clone().all(|rendered| rendered.holds_password), "{format:?}");
    }
}

fn hosts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,12}(\\.[a-z]{2,8}){0,3}",
        Just("x-y.upstash.io".to_owned()),
        Just("10.0.0.7".to_owned())
    ]
}

fn addresses() -> impl Strategy<Value = Address> {
    (hosts(), 1..=u16::MAX, 0..16_u32, proptest::option::of("[^\\p{C}]{1,12}"), any::<bool>()).prop_map(
        |(host, port, db, user, tls)| Address { host, port, db, user: user.filter(|user| user != "default"), tls },
    )
}

fn passwords() -> impl Strategy<Value = Option<String>> {
    let nasty = Just("p@:/?#[]% +&=\"'\\{}é\u{1F511}".to_owned());
    proptest::option::of(prop_oneof!["[^\\p{C}]{1,40}", "[ -~]{1,40}", nasty])
}

proptest! {
    #[test]
    fn what_is_rendered_reads_back(address in addresses(), password in passwords(), which in 0..10_usize) {
        let format = &formats()[which];
        // The last but one writes its own scheme and always a user; the app of UrlImplicitTls decides about TLS by the host.
        let address = match which {
            1 => Address { tls: is_upstash(&address.host), ..address },
            8 => Address { tls: true, ..address },
            _ => address,
        };
        prop_assume!(fits(format, &address).is_ok());
        let present = names(format).into_iter().collect();
        for upstash in [false, true] {
            let rendered = render(format, &present, &address, password.as_deref(), upstash);
            let (read_address, read_password) = read(format, &values(&rendered)).unwrap();
            prop_assert_eq!(&read_address, &address);
            prop_assert_eq!(read_password.as_ref().map(secrecy::ExposeSecret::expose_secret), password.as_deref());
        }
    }

    #[test]
    fn the_outline_is_what_is_rendered_without_the_password(address in addresses(), password in passwords(), which in 0..10_usize) {
        let format = &formats()[which];
        let rendered = render(format, &BTreeSet::new(), &address, password.as_deref(), false);
        let outlined = outline(format, &BTreeSet::new(), &address, password.is_some(), false);
        prop_assert!(rendered.keys().eq(outlined.keys()));
        for (name, outline) in outlined {
            match outline {
                Outline::Plain(value) => prop_assert_eq!(reveal(&rendered[&name]), value),
                Outline::Secret { key } => {
                    prop_assert!(rendered[&name].holds_password);
                    prop_assert_eq!(&rendered[&name].secret_key, &key);
                }
            }
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic_or_speak(text in "[ -~]{0,60}") {
        if let Err(error) = parse_url(&format!("rediss://{text}")) {
            let said = error.to_string();
            prop_assert!(text.len() < 12 || !said.contains(&text));
        }
    }
}
