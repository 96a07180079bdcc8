use super::*;

fn load_text(text: &str) -> Result<Agent, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::write(folder.path().join("token"), "abc\n").unwrap();
    std::fs::write(folder.path().join("secret"), "MDEyMzQ1Njc4OWFiY2RlZg==\n").unwrap();
    load(&path).map_err(|problems| problems.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

const TOP: &str = "zone = \"z.test\"\nserver = \"192.0.2.53\"\nid = \"i-1\"\n";

#[test]
fn services_share_what_stands_at_the_top() {
    let text = format!(
        "{TOP}address = \"192.0.2.7\"\nlease = \"30s\"\n[[service]]\nname = \"_memcached._tcp\"\nport = 11211\n\
         check = \"memcached\"\non-join = \"flush\"\nmeta = {{ az = \"a\" }}\n[[service]]\nname = \"_www._tcp\"\n\
         port = 80\nid = \"w-1\"\nlease = \"5s\"\naddress = [\"192.0.2.8\", \"2001:db8::8\"]\n\
         check = \"http://127.0.0.1/up\"\nrise = 1\n"
    );
    let agent = load_text(&text).unwrap();
    let Access::Dns { servers, key: None } = &agent.access else { panic!("{agent:?}") };
    assert_eq!(servers[0].to_string(), "192.0.2.53:53");
    assert_eq!((agent.initial_delay, agent.drain_timeout), (INITIAL_DELAY, DRAIN_TIMEOUT));
    let [cache, www] = agent.services.as_slice() else { panic!("{agent:?}") };
    assert_eq!(
        (cache.service.to_string().as_str(), cache.id.as_str(), cache.lease),
        ("_memcached._tcp.z.test.", "i-1", 30)
    );
    assert_eq!((&cache.check, &cache.on_join), (&Some(Check::Memcached(None)), &Some(OnJoin::Flush(None))));
    assert_eq!(cache.metadata, [("az".to_owned(), "a".to_owned())]);
    assert_eq!((www.id.as_str(), www.lease, www.addresses.len(), www.rise, www.fall), ("w-1", 5, 2, 1, FALL));
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let service = "[[service]]\nname = \"_x._tcp\"\nport = 1\n";
    let cases = [
        (format!("{TOP}sever = 1\n{service}"), "agent.toml:4:1:", "sever"),
        (format!("{TOP}{service}chek = \"tcp\"\n"), "agent.toml:7:1:", "chek"),
        (format!("{TOP}{service}check = \"icmp\"\n"), "agent.toml:7:9:", "is no check"),
        (format!("{TOP}{service}on-join = \"wipe\"\n"), "agent.toml:7:11:", "flush"),
        (format!("{TOP}{service}interval = 2\n"), "agent.toml:7:12:", "\"5s\""),
        (format!("{TOP}{service}meta = {{ a = 1 }}\n"), "agent.toml:7:8:", "string"),
        (format!("{TOP}[[service]]\nname = \"memcached\"\nport = 1\n"), "agent.toml:5:8:", "_memcached._tcp"),
        (format!("{TOP}[[service]]\nname = \"_x._tcp\"\n"), "agent.toml:4:1:", "`port`"),
        (format!("{TOP}{service}{service}"), "agent.toml:7:1:", "has i-1 already"),
        (format!("{TOP}api = \"http://127.0.0.1:1\"\n{service}"), "agent.toml:4:7:", "leave one out"),
        (format!("{TOP}key-file = \"k\"\n{service}"), "agent.toml:4:12:", "is not there"),
        (format!("{TOP}key-file = \"secret\"\n{service}"), "secret:", "livezone keygen"),
        (TOP.to_owned(), "agent.toml:", "[[service]]"),
        (format!("zone = \"z.\"\n{service}"), "agent.toml:", "`server`"),
        (format!("server = \"a b\"\nzone = \"z.\"\nid = \"i\"\n{service}"), "agent.toml:1:10:", "HOST:PORT"),
    ];
    for (text, place, word) in cases {
        let problems = load_text(&text).unwrap_err();
        assert!(problems.lines().any(|line| line.starts_with(place) && line.contains(word)), "{text}\n{problems}");
    }
}

#[test]
fn a_token_goes_over_https_or_loopback() {
    let agent = load_text(
        "zone = \"z.\"\napi = \"https://[2001:db8::1]:8053/\"\ntoken-file = \"token\"\nid = \"i\"\n[[service]]\nname = \"_x._tcp\"\nport = 1\n",
    );
    let Access::Http { urls, token: Some(token), .. } = agent.unwrap().access else { panic!() };
    assert_eq!((urls[0].as_str(), token.0.as_str()), ("https://[2001:db8::1]:8053", "abc"));
    assert_eq!(format!("{token:?}"), "Token");
    assert!(is_in_the_clear("http://livezone.example.test:8053") && is_in_the_clear("http://192.0.2.1"));
    for safe in ["https://192.0.2.1", "http://127.0.0.1:8053", "http://localhost", "http://[::1]:8053"] {
        assert!(!is_in_the_clear(safe), "{safe}");
    }
}

#[test]
fn checks_and_places_are_read_as_they_are_written() {
    let place = |host: &str, port| Some(Place { host: host.to_owned(), port });
    assert_eq!(Check::parse("tcp:[::1]:80"), Ok(Check::Tcp(place("::1", 80))));
    assert_eq!(Check::parse("memcached:localhost:1"), Ok(Check::Memcached(place("localhost", 1))));
    let http = |path: &str| Check::Http { place: place("a", 8080).unwrap(), path: path.to_owned() };
    assert_eq!(Check::parse("http://a:8080"), Ok(http("/")));
    assert_eq!(Check::parse("http://a:8080/b?c=d:e"), Ok(http("/b?c=d:e")));
    assert_eq!(Check::parse("exec:a b: c"), Ok(Check::Exec("a b: c".to_owned())));
    for wrong in ["", "udp", "tcp:80", "exec:", "https://a", "http://", "http://a/b c", "memcached:a"] {
        assert!(Check::parse(wrong).is_err(), "{wrong}");
    }
    assert_eq!(Place::parse("[2001:db8::1]:53", None).unwrap().to_string(), "[2001:db8::1]:53");
    assert_eq!(Place::parse("2001:db8::1", Some(53)).unwrap().to_string(), "[2001:db8::1]:53");
    assert!(Place::parse("a:0", None).is_err() && Place::parse("a", None).is_err());
}

#[test]
fn a_token_is_the_first_line_that_is_no_comment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t");
    let read = |text: &str| {
        std::fs::write(&file, text).unwrap();
        read_token_file(&file).map(|Token(token)| token)
    };
    for text in ["t0k-en", "t0k-en\n", "# of ci\n\n  t0k-en \nmore\n"] {
        assert_eq!(read(text).unwrap(), "t0k-en");
    }
    for text in ["", "# t0k-en\n", "t0k en\n"] {
        assert!(read(text).is_err(), "{text}");
    }
}
