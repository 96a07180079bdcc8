//! The real binary, in a folder of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client::Client;
use super::tsig::TsigKey;
use super::{PATIENCE, ZONE, wait_until};

/// What a server is started with. The defaults suit most tests: leases down to a second, everything open to loopback.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Keys of the zone's top level.
    pub(crate) top: String,
    /// The `[lease]` table.
    pub(crate) lease: String,
    /// Further tables of the zone: `[access]`, `[[service]]`.
    pub(crate) tables: String,
    /// `[hold]` and `[damping]`. Most tests let all members fall silent at once, and register them again and again, and want
    /// neither; those of the policies have the defaults.
    pub(crate) policies: String,
    /// The whole zone file, in place of what the fields above make.
    pub(crate) zone: Option<String>,
    /// The static master file.
    pub(crate) statics: String,
    /// `livezone.toml`, besides keys and places.
    pub(crate) server: String,
    /// TSIG keys to make: name and algorithm.
    pub(crate) keys: Vec<(&'static str, &'static str)>,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// More arguments of `serve`.
    pub(crate) arguments: Vec<&'static str>,
    /// A program that runs the server: it is called with the server's command line behind its own arguments, and must
    /// become that program (exec). By default it has a session of its own, as a service manager gives it: so its threads
    /// give way (nice) to each other alone, and not to whatever else the tests have the processors do. It ends with the
    /// thread that started it, also where the tests are interrupted.
    pub(crate) wrapper: Vec<String>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            top: String::new(),
            lease: "default = \"15s\"\nmin = \"1s\"\nmax = \"1h\"\n".to_owned(),
            tables: String::new(),
            policies: "[hold]\nfraction = 1.0\n[damping]\nhalf-life = \"0s\"\n".to_owned(),
            zone: None,
            statics: "$TTL 1h\n@ IN NS ns1\nns1 IN A 127.0.0.1\nns1 IN AAAA ::1\n".to_owned(),
            server: String::new(),
            keys: Vec::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            arguments: Vec::new(),
            wrapper: ["setsid", "setpriv", "--pdeathsig", "KILL"].map(str::to_owned).to_vec(),
        }
    }
}

/// Lines that a process wrote, as they come.
pub(crate) type Lines = Arc<Mutex<Vec<String>>>;

/// A running server. Killed when dropped.
#[derive(Debug)]
pub(crate) struct TestServer {
    folder: TempDir,
    process: Option<Child>,
    arguments: Vec<&'static str>,
    wrapper: Vec<String>,
    pub(crate) address: SocketAddr,
    /// Where it serves HTTP; none if it doesn't.
    pub(crate) http: Option<SocketAddr>,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

/// The binary under test.
pub(crate) fn livezone() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livezone"));
    // Whoever runs the tests may have a filter of their own.
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

impl TestServer {
    /// Starts a server with the defaults.
    pub(crate) fn start() -> TestServer {
        TestServer::with(&Setup::default())
    }

    /// Starts a server.
    pub(crate) fn with(setup: &Setup) -> TestServer {
        let folder = TempDir::with_prefix("livezone-test-").unwrap();
        write_files(folder.path(), setup);
        let mut server = TestServer {
            folder,
            process: None,
            arguments: setup.arguments.clone(),
            wrapper: setup.wrapper.clone(),
            address: setup.listen,
            http: None,
            stdout: Lines::default(),
            stderr: Lines::default(),
        };
        server.restart();
        server
    }

    /// Its folder, with livezone.toml, zones and data.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file of a key of the setup.
    pub(crate) fn key_file(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.key"))
    }

    /// A key of the setup.
    pub(crate) fn key(&self, name: &str) -> TsigKey {
        TsigKey::read(&self.key_file(name))
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running server").id()
    }

    /// Starts it again on its port, after it ended, and waits until it listens.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_none(), "the server runs");
        let start = Instant::now();
        loop {
            match self.spawn() {
                Ok(()) => return,
                // A free TCP port whose UDP side somebody else has, or a port that the kernel still closes.
                Err(error) if error.contains("can't listen") && start.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("the server doesn't start: {error}"),
            }
        }
    }

    fn spawn(&mut self) -> Result<(), String> {
        let listen = self.address.to_string();
        let config = self.folder().join("livezone.toml");
        let (program, arguments) = self.wrapper.split_first().expect("a program");
        let mut command = Command::new(program);
        command.args(arguments).arg(env!("CARGO_BIN_EXE_livezone")).env_remove("RUST_LOG").stdin(Stdio::null());
        // So that a wrapper finds the folder.
        command
            .current_dir(self.folder())
            .arg("serve")
            .arg("--config")
            .arg(config)
            .args(["--listen", &listen])
            .args(&self.arguments);
        // Servers run side by side: each has a free port, unless its test says otherwise.
        let says_otherwise = std::fs::read_to_string(self.folder().join("livezone.toml")).unwrap().contains("[http]");
        if !says_otherwise {
            command.args(["--http", "127.0.0.1:0"]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let before = self.stdout.lock().unwrap().len();
        let errors_before = self.stderr.lock().unwrap().len();
        collect(child.stdout.take().unwrap(), &self.stdout);
        collect(child.stderr.take().unwrap(), &self.stderr);
        let outcome = wait_until(PATIENCE, "a listening server", || {
            let lines = self.stdout.lock().unwrap();
            let listening = |line: &String| line.strip_prefix("listening on ")?.split(',').next()?.parse().ok();
            let http = |line: &String| line.strip_prefix("http on ")?.parse().ok();
            let address = lines[before..].iter().find_map(listening);
            // What comes behind all listeners.
            let ready = lines[before..].iter().any(|line| line.starts_with("zone "));
            if let Some(address) = address.filter(|_| ready) {
                return Some(Ok((address, lines[before..].iter().find_map(http))));
            }
            drop(lines);
            child.try_wait().unwrap().map(|_| {
                // Its last words may still be under way.
                let words = || self.stderr.lock().unwrap()[errors_before..].join("\n");
                Err(wait_until(PATIENCE, "an error message", || Some(words()).filter(|words| !words.is_empty())))
            })
        });
        (self.address, self.http) = outcome?;
        self.process = Some(child);
        Ok(())
    }

    /// kill -9.
    pub(crate) fn kill_9(&mut self) {
        let mut process = self.process.take().expect("a running server");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("a running server");
        wait_until(PATIENCE, "the end of the server", || process.try_wait().unwrap())
    }

    /// Waits for a line of its log that contains a text.
    pub(crate) fn wait_for_line(&self, text: &str) {
        wait_until(PATIENCE, text, || (self.count_logged(text) > 0).then_some(()));
    }

    /// That many lines of its log contain a text; the last of them may still be under way.
    pub(crate) fn assert_logged(&self, text: &str, count: usize) {
        self.assert_lines(&[text], count);
    }

    /// That many contain all of these.
    pub(crate) fn assert_lines(&self, texts: &[&str], count: usize) {
        wait_until(PATIENCE, &texts.join(" … "), || (self.count_lines(texts) >= count).then_some(()));
        assert_eq!(self.count_lines(texts), count, "{texts:?}");
    }

    /// How many lines of its log contain a text.
    pub(crate) fn count_logged(&self, text: &str) -> usize {
        self.count_lines(&[text])
    }

    /// How many contain all of these.
    pub(crate) fn count_lines(&self, texts: &[&str]) -> usize {
        self.logged().iter().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }

    /// Its log so far. A copy: whoever fails over it leaves the log to whoever shows it.
    pub(crate) fn logged(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", self.logged().join("\n"));
        }
    }
}

/// Collects lines until the pipe closes.
pub(crate) fn collect(pipe: impl Read + Send + 'static, lines: &Lines) {
    let lines = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
}

/// Runs `livezone keygen` into a file.
pub(crate) fn make_key(name: &str, algorithm: &str, file: &Path) {
    let output = livezone().args(["keygen", name, "--algorithm", algorithm]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::write(file, output.stdout).unwrap();
}

fn write_files(folder: &Path, setup: &Setup) {
    let Setup { top, lease, tables, policies, zone, statics, server, keys, .. } = setup;
    let mut config = format!("{server}\n");
    for (name, algorithm) in keys {
        make_key(name, algorithm, &folder.join(format!("{name}.key")));
        config += &format!("[[key]]\nname = \"{name}.\"\nalgorithm = \"{algorithm}\"\nsecret-file = \"{name}.key\"\n");
    }
    std::fs::write(folder.join("livezone.toml"), config).unwrap();
    let zones = folder.join("zones");
    std::fs::create_dir(&zones).unwrap();
    let made = || {
        format!(
            "origin = \"{ZONE}\"\nttl = \"1s\"\nnegative-ttl = \"2s\"\nstatic = \"svc.example.test.zone\"\n{top}\n\
             [soa]\ncontact = \"hostmaster.example.test.\"\n[lease]\n{lease}\n{policies}\n{tables}\n"
        )
    };
    std::fs::write(zones.join("svc.example.test.toml"), zone.clone().unwrap_or_else(made)).unwrap();
    std::fs::write(zones.join("svc.example.test.zone"), statics).unwrap();
}
