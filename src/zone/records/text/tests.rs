use hickory_proto::rr::RData;
use hickory_proto::serialize::binary::BinEncodable;
use proptest::prelude::*;

use super::*;

fn origin() -> Name {
    "svc.example.test.".parse().unwrap()
}

/// Splits at spaces; quoted strings stay whole. Enough for tests: `zone::file` has the real reader.
fn tokens(line: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut start, mut inside, mut escaped) = (None, false, false);
    for (at, byte) in line.bytes().chain([b' ']).enumerate() {
        if byte == b' ' && !inside && !escaped {
            if let Some(from) = start.take() {
                let word: &str = &line[from..at];
                let bare = word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                let position = Position { line: 1, column: from + 1 };
                tokens.push(Token { text: bare.unwrap_or(word), quoted: bare.is_some(), at: position });
            }
        } else {
            start.get_or_insert(at);
            inside ^= byte == b'"' && !escaped;
        }
        escaped = byte == b'\\' && !escaped;
    }
    tokens
}

fn read(rtype: RecordType, line: &str) -> Result<Rdata, TextError> {
    parse(rtype, &tokens(line), &origin())
}

fn rtype(text: &str) -> RecordType {
    text.parse().unwrap()
}

/// Type, text as it may be written, text as we write it.
const TEXTS: &[(&str, &str, &str)] = &[
    ("A", "192.0.2.1", "192.0.2.1"),
    ("AAAA", "2001:DB8:0::1", "2001:db8::1"),
    ("NS", "NS1", "ns1.svc.example.test."),
    ("CNAME", "@", "svc.example.test."),
    ("PTR", "a\\.b.Example.", "a\\.b.example."),
    ("DNAME", ".", "."),
    ("SOA", "ns1 hostmaster 7 1h 5m 2W 60", "ns1.svc.example.test. hostmaster.svc.example.test. 7 3600 300 1209600 60"),
    ("MX", "10 mail", "10 mail.svc.example.test."),
    ("SRV", "0 256 11211 i-1.memcached", "0 256 11211 i-1.memcached.svc.example.test."),
    ("TXT", "a \"b c\" \\\"d\\\\ \"\" \\255", "\"a\" \"b c\" \"\\\"d\\\\\" \"\" \"\\255\""),
    ("SPF", "v=spf1", "\"v=spf1\""),
    ("AFSDB", "1 db", "1 db.svc.example.test."),
    ("KX", "1 kx.", "1 kx."),
    ("RT", "65535 r", "65535 r.svc.example.test."),
    ("RP", "admin .", "admin.svc.example.test. ."),
    ("PX", "1 a. b.", "1 a. b."),
    ("MINFO", "a. b.", "a. b."),
    ("HINFO", "PDP-10 \"TOPS 20\"", "\"PDP-10\" \"TOPS 20\""),
    ("NAPTR", "100 10 u E2U+sip \"!^.*$!sip:x@e.test!\" .", "100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:x@e.test!\" ."),
    ("CERT", "PKIX 1 RSASHA256 AQID BA==", "1 1 8 AQIDBA=="),
    ("DS", "60485 ED25519 250 0A0b 0c", "60485 15 250 0a0b0c"),
    ("SSHFP", "4 9 AB cd", "4 9 abcd"),
    ("TLSA", "3 1 1 0a 0b", "3 1 1 0a0b"),
    ("SMIMEA", "3 0 0 ff", "3 0 0 ff"),
    ("OPENPGPKEY", "AQID BA==", "AQIDBA=="),
    ("CSYNC", "66 3 TYPE65280 ns A aaaa", "66 3 A NS AAAA TYPE65280"),
    ("CSYNC", "66 3", "66 3"),
    ("URI", "10 1 \"ftp://x.test/\"", "10 1 \"ftp://x.test/\""),
    ("CAA", "128 issue \"ca.test; a=b\"", "128 issue \"ca.test; a=b\""),
    ("CAA", "0 iodef \"\"", "0 iodef \"\""),
    ("SVCB", "0 Alias", "0 alias.svc.example.test."),
    (
        "HTTPS",
        "1 . ipv6hint=::1,::2 port=\"443\" alpn=h2,h3 mandatory=port,alpn key667=\"a\\000b\" no-default-alpn",
        "1 . mandatory=\"alpn,port\" alpn=\"h2,h3\" no-default-alpn port=\"443\" ipv6hint=\"::1,::2\" \
         key667=\"a\\000b\"",
    ),
    // RFC 9460 appendix D.2, figure 10.
    (
        "SVCB",
        "16 foo. alpn=\"f\\\\\\\\oo\\\\,bar,h2\" ipv4hint=192.0.2.1 ech=AQI=",
        "16 foo. alpn=\"f\\\\\\\\oo\\\\,bar,h2\" ipv4hint=\"192.0.2.1\" ech=\"AQI=\"",
    ),
    ("SVCB", "1 . dohpath=/q{?dns} ohttp", "1 . key7=\"/q{?dns}\" key8"),
    // RFC 1876 §4.
    ("LOC", "42 21 54 N 71 06 18 W -24m 30m", "42 21 54.000 N 71 6 18.000 W -24.00m 30.00m 10000.00m 10.00m"),
    ("LOC", "90 S 180 E 0", "90 0 0.000 S 180 0 0.000 E 0.00m 1.00m 10000.00m 10.00m"),
    (
        "LOC",
        "0 0 0.001 n 0 59 59.999 w 42849672.95 0 90000000.00m 0.09",
        "0 0 0.001 N 0 59 59.999 W 42849672.95m 0.00m 90000000.00m 0.09m",
    ),
    ("A", "\\# 4 C0 00 0201", "192.0.2.1"),
    ("MX", "\\# 6 0001 02 4142 00", "1 ab."),
    ("HTTPS", "\\# 5 0001 01 41 00", "1 a."),
    ("TYPE65280", "\\# 3 0a0B0c", "\\# 3 0a0b0c"),
    ("TYPE65280", "\\# 0", "\\# 0"),
    ("NULL", "\\# 1 00", "\\# 1 00"),
    ("LOC", "\\# 2 01ff", "\\# 2 01ff"),
    ("TYPE16", "\\# 4 03616263", "\"abc\""),
];

#[test]
fn texts_of_every_type_are_read_and_written_back_in_one_form() {
    for &(kind, written, shown) in TEXTS {
        let kind = rtype(kind);
        let rdata = read(kind, written).unwrap_or_else(|error| panic!("{kind} {written}: {error}"));
        assert_eq!(present(kind, &rdata), shown);
        assert_eq!(read(kind, shown), Ok(rdata.clone()), "{kind} {shown}");
        assert_eq!(read(kind, &generic(&rdata)), Ok(rdata), "{kind} {written}");
    }
}

#[test]
fn what_is_wrong_is_named_at_its_word() {
    for (kind, line, column, cause) in [
        ("A", "", 0, Cause::Missing("IPv4 address")),
        ("A", "192.0.2.01", 1, Cause::Address4),
        ("A", "192.0.2.1 x", 11, Cause::Extra),
        ("A", "\"192.0.2.1\"", 1, Cause::Quoted("IPv4 address")),
        ("AAAA", "192.0.2.1", 1, Cause::Address6),
        ("MX", "10", 1, Cause::Missing("mail server")),
        ("MX", "65536 a", 1, Cause::Number { what: "preference", max: 65_535 }),
        ("MX", "+1 a", 1, Cause::Number { what: "preference", max: 65_535 }),
        ("MX", "10 a..b", 4, Cause::Name(NameError::EmptyLabel)),
        ("NS", "x=\"y\"", 1, Cause::InnerQuote),
        ("TXT", "a b\\2", 3, Cause::Escape),
        ("TXT", "", 0, Cause::Missing("text")),
        ("CAA", "0 is-sue x", 3, Cause::Tag),
        ("CERT", "PKIY 1 8 AQID", 1, Cause::Choice { what: "certificate type", max: 65_535 }),
        ("TLSA", "3 1 1 abc", 7, Cause::Hex("certificate association data")),
        ("TLSA", "3 1 1", 5, Cause::Missing("certificate association data")),
        ("DS", "1 8 2 ab cd", 10, Cause::Digest { octets: 32 }),
        ("SSHFP", "1 1 ab", 5, Cause::Digest { octets: 20 }),
        ("DS", "\\# 5 0001 08 04 ab", 4, Cause::Malformed(RecordType::DS)),
        ("OPENPGPKEY", "AQI", 1, Cause::Base64("key")),
        ("CSYNC", "1 1 NOPE", 5, Cause::Type),
        ("TYPE65280", "a", 1, Cause::NoText(RecordType(65_280))),
        ("RRSIG", "A 8", 1, Cause::NoText(RecordType::RRSIG)),
        ("A", "\\#", 1, Cause::Missing("length behind \\#")),
        ("A", "\\# 4 0102", 4, Cause::GenericLength { said: 4, found: 2 }),
        ("A", "\\# 0 01", 4, Cause::GenericLength { said: 0, found: 1 }),
        ("A", "\\# 2 0102", 4, Cause::Rdata(RdataError::Length)),
        ("A", "\\# 65536 01", 4, Cause::Number { what: "length", max: 65_535 }),
        ("TLSA", "\\# 2 0102", 4, Cause::Malformed(RecordType::TLSA)),
        ("SVCB", "\\# 11 0001 00 0001 0000 0001 0000", 4, Cause::Malformed(RecordType::SVCB)),
        ("CSYNC", "\\# 9 00000001 0000 00 01 00", 4, Cause::Malformed(RecordType::CSYNC)),
        ("SVCB", "1 . alpn=h2 alpn=h3", 13, Cause::Parameter("a key stands twice")),
        ("SVCB", "1 . mandatory=port", 5, Cause::Parameter("a key that mandatory names is not there")),
        ("SVCB", "1 . no-default-alpn", 5, Cause::Parameter("no-default-alpn needs alpn beside it")),
        ("SVCB", "1 . port=+1", 5, Cause::Parameter("port is a number from 0 to 65535")),
        ("SVCB", "1 . \"port=1\"", 5, Cause::Quoted("parameter")),
    ] {
        let error = read(rtype(kind), line).expect_err(line);
        assert_eq!((error.at.map_or(0, |at| at.column), error.cause), (column, cause), "{kind} {line}");
    }
    let parameters =
        ["key65535=a", "key01=a", "PORT=1", "alpn=", "alpn=a,,b", "port=70000", "ipv4hint=x", "ech=x", "ohttp=1"];
    for bad in parameters.into_iter().chain(["mandatory=mandatory", "mandatory=alpn,alpn", "key3=a", "alpn=a\\\\b"]) {
        let error = read(RecordType::SVCB, &format!("1 . {bad}")).expect_err(bad);
        assert!(matches!(error.cause, Cause::Parameter(_)), "{bad}: {error}");
    }
    for bad in ["91 N 0 E 0", "90 0 0.001 N 0 E 0", "0 60 N 0 E 0", "0 0 60 N 0 E 0", "0.5 N 0 E 0", "0 X 0 E 0"] {
        let error = read(RecordType::LOC, bad).expect_err(bad);
        assert!(matches!(error.cause, Cause::Location(_)), "{bad}: {error}");
    }
    for bad in ["0 N 181 E 0", "0 N 0 E 0.001", "0 N 0 E -100000.01", "0 N 0 E 42849672.96", "0 N 0 E 0 99999999999"] {
        assert!(read(RecordType::LOC, bad).is_err(), "{bad}");
    }
}

#[test]
fn a_character_string_holds_255_octets_and_a_record_65535() {
    let longest = "x".repeat(255);
    assert_eq!(read(RecordType::TXT, &longest).unwrap().len(), 256);
    assert_eq!(read(RecordType::TXT, &format!("{longest}y")).unwrap_err().cause, Cause::StringTooLong);
    let strings = |count| vec![longest.as_str(); count].join(" ");
    assert_eq!(read(RecordType::TXT, &strings(255)).unwrap().len(), 65_280);
    assert_eq!(read(RecordType::TXT, &strings(256)).unwrap_err().cause, Cause::TooLong);
    let target = |len| format!("1 . key9=\"{}\"", "x".repeat(len));
    assert_eq!(read(RecordType::SVCB, &target(65_528)).unwrap().len(), 65_535);
    assert_eq!(read(RecordType::SVCB, &target(65_529)).unwrap_err().cause, Cause::TooLong);
    assert_eq!(read(RecordType::SVCB, &target(65_536)).unwrap_err().cause, Cause::TooLong);
}

#[test]
fn data_that_break_a_rule_are_shown_as_octets() {
    assert_eq!(present(RecordType::A, &[1, 2, 3]), "\\# 3 010203");
    assert_eq!(present(RecordType::TXT, &[]), "\\# 0");
    assert_eq!(present(RecordType::CAA, b"\x00\x01-x"), "\\# 4 00012d78");
    assert_eq!(present(RecordType::MX, b"\x00\x01\xc0\x0c"), "\\# 4 0001c00c");
}

#[test]
fn hickory_reads_the_same_octets() {
    // What hickory-proto has a parser for and its lexer reads as RFC 1035 §5.1 says: no escapes, no origin.
    for (kind, line) in [
        ("A", "192.0.2.1"),
        ("AAAA", "2001:db8::1"),
        ("MX", "10 mail.test."),
        ("SRV", "1 2 3 t.test."),
        ("TXT", "a \"b c\""),
        ("HINFO", "a b"),
        ("NAPTR", "100 10 u E2U+sip \"!^.*$!sip:x.test!\" ."),
        ("CAA", "128 issue \"ca.test\""),
        ("TLSA", "3 1 1 0a0b"),
        ("SSHFP", "1 1 dd465c09cfa51fb45020cc83316fff21b9ec74ac"),
        ("DS", "60485 5 1 2bb183af5f22588179a53b0a98631fad1a292118"),
        ("OPENPGPKEY", "AQIDBA=="),
        ("CSYNC", "66 3 A NS AAAA"),
        ("SVCB", "1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.1,192.0.2.2"),
        ("HTTPS", "1 x.test. mandatory=port port=8443"),
    ] {
        let theirs = RData::try_from_str(kind.parse().unwrap(), line).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(read(rtype(kind), line).unwrap().to_vec(), theirs.to_bytes().unwrap(), "{kind} {line}");
    }
}

const KINDS: &[&str] = &[
    "A",
    "NS",
    "SOA",
    "HINFO",
    "MX",
    "TXT",
    "RP",
    "LOC",
    "SRV",
    "NAPTR",
    "CERT",
    "DS",
    "SSHFP",
    "TLSA",
    "OPENPGPKEY",
    "CSYNC",
    "SVCB",
    "URI",
    "CAA",
    "DNSKEY",
    "TYPE4711",
];

proptest! {
    #[test]
    fn data_that_read_at_all_read_back_from_their_text(
        kind in prop::sample::select(KINDS),
        octets in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..40),
    ) {
        let kind = rtype(kind);
        if let Ok(rdata) = read(kind, &generic(&octets)) {
            prop_assert_eq!(read(kind, &present(kind, &rdata)), Ok(rdata));
        } else {
            present(kind, &octets);
        }
    }

    #[test]
    fn locations_read_back(
        lat in 0u32..=648_000_000,
        long in 0u32..=1_296_000_000,
        altitude: u32,
        sizes in prop::array::uniform3((0u8..10, 0u8..10)),
    ) {
        let mut octets = vec![0];
        octets.extend(sizes.map(|(digit, power)| digit << 4 | power));
        octets.extend(((1u32 << 31) - 324_000_000 + lat).to_be_bytes());
        octets.extend(((1u32 << 31) - 648_000_000 + long).to_be_bytes());
        octets.extend(altitude.to_be_bytes());
        prop_assert_eq!(read(RecordType::LOC, &present(RecordType::LOC, &octets)).unwrap().to_vec(), octets);
    }

    #[test]
    fn strings_and_lists_of_any_octets_read_back(
        octets in prop::collection::vec(any::<u8>(), 1..200),
        key in 9u16..65_535,
    ) {
        let len = u8::try_from(octets.len()).unwrap();
        let mut txt = vec![len];
        txt.extend(&octets);
        prop_assert_eq!(read(RecordType::TXT, &present(RecordType::TXT, &txt)).unwrap().to_vec(), txt.clone());
        let mut svcb = vec![0, 1, 0, 0, 1, 0, len + 1];
        svcb.extend(&txt);
        svcb.extend(key.to_be_bytes());
        svcb.extend([0, len]);
        svcb.extend(&octets);
        let text = present(RecordType::SVCB, &svcb);
        prop_assert!(text.starts_with("1 . alpn="));
        prop_assert_eq!(read(RecordType::SVCB, &text).unwrap().to_vec(), svcb);
    }

    #[test]
    fn hostile_words_never_panic(kind in prop::sample::select(KINDS), line in "[ -~é\\\\\"#=0-9a-f]{0,60}") {
        let _ = read(rtype(kind), &line);
    }
}
