//! `livezone watch`: follow a service, and hand its list on.

mod format;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::api::segment;
use crate::api::views::ServiceView;
use crate::base::Name;

use super::client::{Client, Error, ServerArgs, parse_zone};

use format::Format;

/// Follow a service: a line, or its whole list, whenever it changes
///
/// Asks a running server, which answers when the service changes and not before. Without --format there is a line per change
/// that says who came and went. With --exec a command is run with the list on its standard input, at first and on each change;
/// one run ends before the next begins, and after one that failed comes the next all the same. While the server can't be
/// reached the last list stands.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  livezone watch svc.example.test. _memcached._tcp\n  \
                        livezone watch svc.example.test. _memcached._tcp --format nft --exec 'nft -f -'\n  \
                        livezone watch svc.example.test. _memcached._tcp --format hosts --once > /etc/hosts.memcached\n\n\
                        The nft format is a script that replaces the sets memcached_tcp_ipv4 and memcached_tcp_ipv6 of the\n\
                        table inet livezone in one transaction. Rules of that table that let the service's members in, and nobody else:\n  \
                        nft 'add chain inet livezone input { type filter hook input priority -1; }'\n  \
                        nft 'add rule inet livezone input tcp dport 11211 ip saddr != @memcached_tcp_ipv4 drop'")]
pub struct Args {
    /// The zone's origin; a missing final dot is added
    #[arg(value_parser = parse_zone)]
    pub zone: Name,
    /// The service: _memcached._tcp, or the whole name
    pub service: String,
    /// Print JSON, the whole service a line: the same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// How to write the list
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Run this with `sh -c` for each list, on its standard input; as JSON unless there is a --format
    #[arg(long, value_name = "CMD")]
    pub exec: Option<String>,
    /// End after the first list; exit status 1 if the command failed
    #[arg(long)]
    pub once: bool,
    /// Which server to ask
    #[command(flatten)]
    pub server: ServerArgs,
}

/// How long the server may keep a question that it has no news for: less than the client waits for an answer.
const WAIT: Duration = Duration::from_secs(20);
/// How long until a server that can't be reached is asked again, at first and at most.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(30);

/// Follows the service until it is interrupted.
pub fn run(args: &Args) -> Result<(), Error> {
    let client = Client::new(&args.server)?;
    let path = format!("/v1/zones/{}/services/{}", segment(&args.zone.to_string()), segment(&args.service));
    let mut known: Option<ServiceView> = None;
    let mut pause = AGAIN;
    loop {
        let query = known
            .as_ref()
            .map_or_else(String::new, |view| format!("?since={}&wait={}s", view.summary.epoch, WAIT.as_secs()));
        match client.poll(&format!("{path}{query}")) {
            Ok(None) => pause = AGAIN,
            Ok(Some(view)) => {
                pause = AGAIN;
                let goes_on = hand_on(args, known.as_ref(), &view)?;
                if args.once || !goes_on {
                    return Ok(());
                }
                known = Some(view);
            }
            // What is wrong from the start is for whoever started this.
            Err(error) if known.is_none() || matches!(error, Error::Output(_)) => return Err(error),
            Err(error) => {
                tell(format_args!("{error}; the last list stands, asking again in {} s", pause.as_secs()));
                std::thread::sleep(pause);
                pause = (pause * 2).min(AGAIN_AT_MOST);
            }
        }
    }
}

/// Prints a list, or has it carried out. False: nobody reads what is printed any more.
fn hand_on(args: &Args, before: Option<&ServiceView>, view: &ServiceView) -> Result<bool, Error> {
    let format = args.format.or((args.json || args.exec.is_some()).then_some(Format::Json));
    let text = match format {
        Some(format) => format.write(view),
        None => format::line(before, view),
    };
    let Some(command) = &args.exec else {
        let mut out = std::io::stdout().lock();
        return match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            written => Ok(written.map(|()| true)?),
        };
    };
    if let Err(cause) = execute(command, &text) {
        if args.once {
            return Err(Error::Command { command: command.clone(), cause });
        }
        tell(format_args!("{command}: {cause}; it is run again at the next change"));
    }
    Ok(true)
}

/// Runs a command with a text on its standard input.
fn execute(command: &str, input: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut child = Command::new("sh").arg("-c").arg(command).stdin(Stdio::piped()).spawn().map_err(failed)?;
    let mut stdin = child.stdin.take().ok_or("its standard input is closed")?;
    // A command that doesn't want the list may end before it has read it.
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        return Err(status.to_string());
    }
    written.or_else(|error| if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(failed(error)) })
}

fn tell(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "livezone: {text}");
}
