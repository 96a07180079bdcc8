use std::cell::Cell;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::zone::Rrset;
use crate::zone::records::text::{Cause, present};

fn zone() -> Name {
    name("svc.example.test.")
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn no_include(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

fn load(text: &str) -> Result<Vec<StaticNode>, Vec<FileError>> {
    parse(text, Path::new("zone"), &zone(), Ttl(5), &no_include)
}

/// What was loaded, a line for each record: owner without the zone, TTL, type, data.
fn list(nodes: &[StaticNode]) -> Vec<String> {
    let mut lines = Vec::new();
    for node in nodes {
        let owner = node.name.to_string();
        let owner = owner.strip_suffix("svc.example.test.").unwrap();
        let owner = if owner.is_empty() { "@" } else { &owner[..owner.len() - 1] };
        for rrset in &node.rrsets {
            for rdata in &rrset.rdatas {
                lines.push(format!("{owner} {} {} {}", rrset.ttl, rrset.rtype, present(rrset.rtype, rdata)));
            }
        }
    }
    lines
}

#[track_caller]
fn assert_loads(text: &str, expected: &[&str]) {
    match load(text) {
        Ok(nodes) => assert_eq!(list(&nodes), expected, "{text}"),
        Err(errors) => panic!("{text}\n{errors:#?}"),
    }
}

/// Line and column of each problem, and the start of its text.
#[track_caller]
fn assert_refused(text: &str, expected: &[(usize, usize, &str)]) {
    let errors = load(text).expect_err(text);
    let places: Vec<(usize, usize)> = errors.iter().map(|error| (error.at.line, error.at.column)).collect();
    let wanted: Vec<(usize, usize)> = expected.iter().map(|&(line, column, _)| (line, column)).collect();
    assert_eq!(places, wanted, "{text}\n{errors:#?}");
    for (error, (.., start)) in errors.iter().zip(expected) {
        let problem = error.problem.to_string();
        assert!(problem.contains(start), "{text}\n{problem}\nwithout: {start}");
    }
}

#[test]
fn owner_ttl_and_class_may_be_left_out_and_stand_in_either_order() {
    for line in ["a 60 IN A 192.0.2.1", "a IN 60 A 192.0.2.1", "a 1m A 192.0.2.1", "A\tclass1 60  TYPE1 192.0.2.1"] {
        assert_loads(line, &["a 60 A 192.0.2.1"]);
    }
    for line in ["a A 192.0.2.1", "a IN A 192.0.2.1", "a.svc.example.test. in a 192.0.2.1\n"] {
        assert_loads(line, &["a 5 A 192.0.2.1"]);
    }
    assert_loads("@ TXT x\n TXT y\n\n; comment\n\t60 AAAA ::1\n", &["@ 5 TXT \"x\"", "@ 5 TXT \"y\"", "@ 60 AAAA ::1"]);
    // An owner may look like a type, a class or a TTL.
    assert_loads(
        "a A 192.0.2.1\nIN A 192.0.2.2\n60 A 192.0.2.3",
        &["60 5 A 192.0.2.3", "a 5 A 192.0.2.1", "in 5 A 192.0.2.2"],
    );
}

#[test]
fn line_ends_comments_parentheses_and_quotes_are_those_of_rfc_1035() {
    assert_loads("a A 192.0.2.1\r\nb A 192.0.2.2\r\n", &["a 5 A 192.0.2.1", "b 5 A 192.0.2.2"]);
    assert_loads("\u{feff}a A 192.0.2.1", &["a 5 A 192.0.2.1"]);
    assert_loads("", &[]);
    assert_loads("  \n;x\n\r\n   ; (\n", &[]);
    assert_loads(
        "a MX ( 10 ; (\n\n  (m)\n) ; x\nb MX 10 m",
        &["a 5 MX 10 m.svc.example.test.", "b 5 MX 10 m.svc.example.test."],
    );
    assert_loads("(a\nA\n192.0.2.1)\n", &["a 5 A 192.0.2.1"]);
    assert_loads("a TXT \"x;y (\" z\\;\\\"\\\\\\065\\(;c", &["a 5 TXT \"x;y (\" \"z;\\\"\\\\A(\""]);
    assert_loads("a TXT (x)(\"y\")\"z\"", &["a 5 TXT \"x\" \"y\" \"z\""]);
    assert_loads("a\\.b\\032 A 192.0.2.1", &["a\\.b\\032 5 A 192.0.2.1"]);
    assert_loads("\\$origin A 192.0.2.1", &["\\$origin 5 A 192.0.2.1"]);
    assert_loads("a SVCB 1 . alpn=\"h2;,h3\" port=1", &["a 5 SVCB 1 . alpn=\"h2;,h3\" port=\"1\""]);
}

#[test]
fn names_of_every_use_load() {
    let text = "@ NS ns\nns A 192.0.2.1\n* A 192.0.2.2\n_x._tcp SRV 0 0 1 i\n\
        sub NS ns.sub\nns.sub A 192.0.2.3\nx.sub CNAME y\n";
    assert_loads(
        text,
        &[
            "@ 5 NS ns.svc.example.test.",
            "* 5 A 192.0.2.2",
            "_x._tcp 5 SRV 0 0 1 i.svc.example.test.",
            "ns 5 A 192.0.2.1",
            "sub 5 NS ns.sub.svc.example.test.",
            "ns.sub 5 A 192.0.2.3",
            "x.sub 5 CNAME y.svc.example.test.",
        ],
    );
}

#[test]
fn directives_set_origin_and_ttl_for_what_follows() {
    assert_loads("a TXT x\n$TTL 1h\nb TXT x\n$ttl 0\nc TXT x", &["a 5 TXT \"x\"", "b 3600 TXT \"x\"", "c 0 TXT \"x\""]);
    assert_loads(
        "$ORIGIN d\na CNAME b\n$ORIGIN e\na CNAME @\n$ORIGIN test.\na.svc.example A 192.0.2.1",
        &["a 5 A 192.0.2.1", "a.d 5 CNAME b.d.svc.example.test.", "a.e.d 5 CNAME e.d.svc.example.test."],
    );
    // The owner before stays what it was.
    assert_loads("a TXT x\n$ORIGIN d\n TXT y", &["a 5 TXT \"x\"", "a 5 TXT \"y\""]);
}

fn files(path: &Path) -> io::Result<String> {
    let text = match path.to_str().unwrap() {
        "zones/one" => " TXT lost\na TXT x\n$ORIGIN deep\nb TXT x\n$INCLUDE in/two\nc TXT y",
        "zones/in/two" => "$TTL 7\n@ TXT two\nd A nonsense",
        "zones/self" => "x TXT x\n$INCLUDE self",
        "zones/good" => "$TTL 9\na TXT x",
        other => match other.strip_prefix("zones/level") {
            Some(level) => return Ok(format!("$INCLUDE level{}", level.parse::<usize>().unwrap() + 1)),
            None => return Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
        },
    };
    Ok(text.to_owned())
}

fn load_files(text: &str) -> Result<Vec<String>, Vec<String>> {
    let outcome = parse(text, Path::new("zones/main"), &zone(), Ttl(5), &files);
    outcome.map(|nodes| list(&nodes)).map_err(|errors| errors.iter().map(FileError::to_string).collect())
}

#[test]
fn an_included_file_leaves_origin_and_owner_alone() {
    let text = "z TXT x\n$INCLUDE \"good\" sub\n TXT y\n$INCLUDE good\nb TXT y ; and $TTL lasts";
    let expected = ["a 9 TXT \"x\"", "b 9 TXT \"y\"", "a.sub 9 TXT \"x\"", "z 5 TXT \"x\""];
    assert_eq!(load_files(&text.replace(" TXT y\n", " 5 TXT x\n")), Ok(expected.map(str::to_owned).to_vec()));
}

#[test]
fn problems_of_included_files_are_theirs() {
    let errors = load_files("z A nonsense\n$INCLUDE one\nz A nonsense").unwrap_err();
    let places: Vec<&str> = errors.iter().map(|error| error.split_once(": ").unwrap().0).collect();
    assert_eq!(places, ["zones/main:1:5", "zones/main:3:5", "zones/one:1:2", "zones/in/two:3:5"]);
    assert_eq!(load_files("a TXT x\n  $INCLUDE good").unwrap_err().len(), 1);
    assert_eq!(
        load_files("$INCLUDE none\n$INCLUDE self\n$INCLUDE main"),
        Err(vec![
            "zones/main:1:10: zones/none can't be read: no such file".to_owned(),
            "zones/main:3:10: zones/main is being read already: a file can't include itself".to_owned(),
            "zones/self:2:10: zones/self is being read already: a file can't include itself".to_owned(),
        ])
    );
    assert_eq!(
        load_files("$INCLUDE level0"),
        Err(vec![
            "zones/level7:1:10: files are included more than 8 deep: put the records into fewer files".to_owned()
        ])
    );
}

#[test]
fn the_number_of_included_files_is_bounded() {
    let reads = Cell::new(0);
    let include = |path: &Path| {
        reads.set(reads.get() + 1);
        Ok(format!("$INCLUDE {}x\n", path.display()).repeat(10))
    };
    let errors = parse("$INCLUDE a", Path::new("main"), &zone(), Ttl(5), &include).unwrap_err();
    assert_eq!(reads.get(), INCLUDES);
    assert!(errors.iter().any(|error| error.problem == Problem::Includes { limit: INCLUDES }));
}

#[test]
fn every_problem_is_reported_at_its_place() {
    for (text, expected) in [
        // Words and entries.
        ("a TXT \"x\nb TXT y", (1, 7, "not closed on its line")),
        ("a TXT \"x\\", (1, 7, "not closed on its line")),
        ("a TXT x\na TXT ( y\n\n z", (2, 7, "never closed")),
        ("a TXT x )", (1, 9, "nothing is open")),
        ("a TXT x\"y\"", (1, 8, "inside a word")),
        ("a TXT x\ry", (1, 8, "carriage return")),
        ("é\tTXT ü \"x", (1, 9, "not closed")),
        // Directives.
        ("$ORIGIN", (1, 1, "$ORIGIN needs a name")),
        ("$ORIGIN a b", (1, 11, "$ORIGIN ends before")),
        ("$ORIGIN a..b", (1, 9, "empty label")),
        ("$TTL", (1, 1, "$TTL needs a time")),
        ("$TTL x", (1, 6, "not a TTL")),
        ("$TTL 2147483648", (1, 6, "at most 2147483647")),
        ("$INCLUDE", (1, 1, "$INCLUDE needs a file")),
        ("$INCLUDE a b c", (1, 14, "$INCLUDE ends before")),
        ("$GENERATE 1-9 h$ A 192.0.2.$", (1, 1, "does not know $GENERATE")),
        ("a TXT x\n $ORIGIN b", (2, 2, "first column")),
        // Owner, TTL, class, type.
        (" TXT x\n TXT y", (1, 2, "has none yet")),
        ("\"a\" TXT x", (1, 1, "without quotation marks")),
        ("a..b TXT x\n TXT y", (1, 1, "empty label")),
        ("a.example. TXT x", (1, 1, "a.example. is outside the zone svc.example.test.")),
        ("$ORIGIN test.\na TXT x", (2, 1, "completed by test. here")),
        ("a", (1, 1, "no type")),
        ("a IN 60", (1, 6, "no type")),
        ("a 60 1h A 192.0.2.1", (1, 6, "a TTL already")),
        ("a IN IN A 192.0.2.1", (1, 6, "a class already")),
        ("a 2147483648 A 192.0.2.1", (1, 3, "at most 2147483647")),
        ("a 99999999999999999999 A 192.0.2.1", (1, 3, "at most 2147483647")),
        ("a CH TXT x", (1, 3, "not CH")),
        ("a CLASS3 TXT x", (1, 3, "not CLASS3")),
        ("a 1h30 A 192.0.2.1", (1, 3, "1h30 is no record type")),
        ("a WKS x", (1, 3, "WKS is no record type")),
        ("a \"A\" x", (1, 3, "\"A\" is no record type")),
        ("@ SOA a b 1 2 3 4 5", (1, 3, "makes the SOA record itself")),
        ("a MD x.", (1, 3, "obsolete")),
        ("a ANY x", (1, 3, "messages only")),
        ("a TYPE41 \\# 0", (1, 3, "messages only")),
        ("a RRSIG x", (1, 3, "signed zones")),
        ("a TYPE50 \\# 0", (1, 3, "NSEC3 belongs")),
        ("a CDNSKEY 1", (1, 3, "CDNSKEY belongs")),
        // Data.
        ("a A", (1, 3, "IPv4 address is missing")),
        ("a A 192.0.2", (1, 5, "not an IPv4 address")),
        ("a MX 10 (\n  m\n  n )", (3, 3, "complete before this word")),
        ("a TYPE65280 x", (1, 13, "TYPE65280")),
        // Between records.
        ("a TXT x\na 6 TXT y", (2, 5, "TTLs 5 (line 1) and 6")),
        ("a TXT x\na 6 TXT x", (2, 5, "TTLs")),
        ("a CNAME b\na CNAME c", (2, 3, "has a CNAME record already (line 1)")),
        ("a DNAME b\na DNAME c", (2, 3, "has a DNAME record already (line 1)")),
        ("a CNAME b\na TXT x", (1, 3, "a CNAME and a TXT record (line 2)")),
        ("@ CNAME b", (1, 3, "apex")),
        ("@ NS ns", (1, 3, "ns.svc.example.test. needs glue")),
        ("@ NS ns\na.ns A 192.0.2.1\n* A 192.0.2.1", (1, 3, "needs glue")),
        ("@ NS ns\nns CNAME x.", (1, 3, "is an alias (CNAME, line 2)")),
        ("@ NS ns.s\ns NS x.", (1, 3, "needs glue")),
        ("s NS ns.s", (1, 3, "needs glue")),
        ("s NS ns\nns CNAME x.", (1, 3, "NS must not point to")),
        ("a MX 1 m\nm CNAME x.", (1, 3, "MX must not point to")),
        ("a SRV 1 1 1 m\n* CNAME x.", (1, 3, "SRV must not point to")),
    ] {
        assert_refused(text, &[expected]);
    }
}

#[test]
fn all_problems_of_a_file_are_reported_in_order() {
    assert_refused(
        "a A x\n.. A y\nb CNAME c\nc TXT \"\nb A 192.0.2.1\n$NOPE\na 1 A (\"\n)\nd A 192.0.2.1",
        &[
            (1, 5, "IPv4"),
            (2, 1, "empty label"),
            (2, 6, "IPv4"),
            (3, 3, "CNAME and a A record"),
            (4, 7, "not closed"),
            (6, 1, "$NOPE"),
            (7, 8, "not closed"),
        ],
    );
}

#[test]
fn targets_that_an_answer_would_find_are_fine() {
    for text in [
        "@ NS ns.elsewhere.",
        "@ NS ns\n* AAAA ::1",
        "@ NS ns.s\ns NS x.\nns.s A 192.0.2.1",
        "s NS ns.t\nt NS x.",
        "s NS ns",
        "s NS ns.t\nt NS x.",
        "a MX 0 .\na SRV 0 0 0 .",
        "a MX 1 not.there\n_x._tcp SRV 0 0 1 i.x",
        "a MX 1 m.s\ns NS x.\nm.s CNAME y.",
        "a MX 1 m\nm TXT x\n* CNAME x.",
        "a MX 1 m\nx.m TXT x\n* CNAME x.",
    ] {
        let loaded = load(text);
        assert!(loaded.is_ok(), "{text}\n{loaded:#?}");
    }
}

#[test]
fn equal_records_are_merged_and_the_order_of_lines_says_nothing() {
    assert_loads(
        "b TXT 2\na TXT 1\nb TXT 1\nB.svc.example.test. TXT \"2\"\nb A 192.0.2.1\nA.a TXT x",
        &["a 5 TXT \"1\"", "a.a 5 TXT \"x\"", "b 5 A 192.0.2.1", "b 5 TXT \"1\"", "b 5 TXT \"2\""],
    );
    assert_loads("a CNAME b\na CNAME B", &["a 5 CNAME b.svc.example.test."]);
}

#[test]
fn an_rrset_fits_an_answer() {
    let lines = |count: usize| {
        (0..count).fold(String::new(), |text, at| text + &format!("a A 10.0.{}.{}\n", at / 256, at % 256))
    };
    assert_eq!(load(&lines(3000)).unwrap()[0].rrsets[0].rdatas.len(), 3000);
    assert_refused(&(lines(3001) + "a A 10.1.0.0\n"), &[(3001, 3, "exceed 48000 octets")]);
    let texts =
        |count: usize| (0..count).fold(String::new(), |text, at| text + &format!("a TXT {}{at:03}\n", "x".repeat(84)));
    assert!(load(&texts(560)).is_ok());
    assert_refused(&texts(561), &[(561, 3, "exceed 56000 octets")]);
    // One datum over and over is one record.
    assert_loads(&"a A 192.0.2.1\n".repeat(5000), &["a 5 A 192.0.2.1"]);
}

#[test]
fn three_hundred_thousand_records_load() {
    let mut text = String::from("$TTL 60\n@ NS ns\nns A 192.0.2.1\n");
    for host in 0..150_000 {
        let (high, low) = (host / 250, host % 250);
        writeln!(text, "h{low}.r{high} A 10.{}.{}.{low}\n TXT \"host {host}\"", high / 256, high % 256).unwrap();
    }
    let nodes = load(&text).unwrap();
    assert_eq!(nodes.len(), 150_002);
    assert!(nodes.is_sorted_by(|a, b| a.name.canonical_cmp(&b.name).is_lt()));
}

#[test]
fn many_problems_take_no_longer_than_many_records() {
    assert_eq!(load(&"a A x\n".repeat(100_000)).unwrap_err().len(), 100_000);
    let in_one_line = format!("a TXT {}", "é ".repeat(200_000)) + ")";
    assert_eq!(load(&in_one_line).unwrap_err()[0].at, Position { line: 1, column: 400_007 });
    assert_eq!(load(&"(".repeat(1_000_000)).unwrap_err().len(), 1);
}

fn any_name() -> impl Strategy<Value = Name> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6), 1..4)
        .prop_map(|labels| labels.iter().fold(zone(), |name, label| name.child(label).unwrap()))
}

fn any_rdata() -> impl Strategy<Value = (RecordType, Vec<u8>)> {
    let octets = || prop::collection::vec(any::<u8>(), 1..30);
    prop_oneof![
        octets().prop_map(|octets| (RecordType(65_280), octets)),
        octets().prop_map(|octets| {
            let len = u8::try_from(octets.len()).unwrap();
            (RecordType::TXT, [vec![len], octets].concat())
        }),
        any::<[u8; 16]>().prop_map(|octets| (RecordType::AAAA, octets.to_vec())),
        (any::<[u8; 6]>(), any_name()).prop_map(|(head, name)| (RecordType::SRV, [&head, name.as_wire()].concat())),
        octets().prop_map(|octets| (RecordType::TLSA, [vec![3, 1, 1], octets].concat())),
        octets().prop_map(|octets| (RecordType::CAA, [b"\x80\x05issue".to_vec(), octets].concat())),
    ]
}

proptest! {
    #[test]
    fn records_that_were_written_read_back(
        records in prop::collection::hash_map(any_name(), (0u32..=0x7fff_ffff, any_rdata()), 1..20),
    ) {
        let mut text = String::new();
        let mut expected = Vec::new();
        for (owner, (ttl, (rtype, rdata))) in &records {
            writeln!(text, "{owner}\t{ttl}\tIN\t{rtype}\t{}", present(*rtype, rdata)).unwrap();
            let rrset = Rrset { rtype: *rtype, ttl: Ttl(*ttl), rdatas: vec![rdata.as_slice().into()] };
            expected.push(StaticNode { name: owner.clone(), rrsets: vec![rrset] });
        }
        expected.sort_by(|a, b| a.name.canonical_cmp(&b.name));
        prop_assert_eq!(load(&text), Ok(expected));
    }

    #[test]
    fn hostile_text_never_panics_and_what_loads_reads_back(
        text in "([a@\\$ \t\n\r\"();\\\\0-9é]|A |TXT |IN |\\$TTL |\\$ORIGIN |\\$INCLUDE |CNAME |NS |\\\\# |x\n){0,60}",
    ) {
        if let Ok(nodes) = load(&text) {
            // What loads reads back as itself.
            let mut again = String::new();
            for node in &nodes {
                for rrset in &node.rrsets {
                    for rdata in &rrset.rdatas {
                        let data = present(rrset.rtype, rdata);
                        writeln!(again, "{} {} {} {data}", node.name, rrset.ttl, rrset.rtype).unwrap();
                    }
                }
            }
            prop_assert_eq!(load(&again), Ok(nodes));
        }
    }
}

#[test]
fn an_error_shows_file_line_and_column() {
    let errors = load("\n  \na A x").unwrap_err();
    assert_eq!(errors[0].to_string(), "zone:3:5: A: not an IPv4 address; it looks like 192.0.2.1");
    assert_eq!(errors[0].problem, Problem::Data { rtype: RecordType::A, cause: Cause::Address4 });
}
