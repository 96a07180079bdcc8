//! The README shows the examples that the secondaries of these tests run with.

use std::path::Path;

#[test]
fn the_readme_shows_what_the_examples_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    for file in ["named.conf", "knot.conf", "nsd.conf", "pdns.conf", "pdns.sh"] {
        let text = std::fs::read_to_string(root.join("examples/secondaries").join(file)).unwrap();
        assert!(readme.contains(&text), "README.md doesn't show examples/secondaries/{file} as it is");
    }
}
