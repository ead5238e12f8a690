//! A root to install into: the machine's own, below an overlay that nobody else sees.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::skipped;
use crate::support::{TempDir, die_with_us, end, is_root, run_helper};

/// The machine's root below an overlay, in a mount namespace that lives as long as this.
pub struct Root {
    holder: Child,
    _dir: TempDir,
}

impl Root {
    /// None, said loudly, where that is not allowed. `packages` is its `/mnt`.
    pub fn new(packages: &Path) -> Option<Root> {
        const SETUP: &str = r#"
            mount -t tmpfs -o mode=755 tmpfs "$1"
            mkdir "$1/upper" "$1/work" "$1/root"
            mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
            cd "$1/root"
            mkdir -p mnt
            mount --bind "$2" mnt
            mount --rbind /proc proc
            mount --rbind /dev dev
            mount -t tmpfs -o mode=755 tmpfs run
            mount -t tmpfs -o mode=1777 tmpfs tmp
            echo ready
            exec chroot . cat
        "#;
        let dir = TempDir::new("root");
        // The user's files get an owner, for which a user namespace of one user is not enough.
        if !is_root() {
            skipped("only root has a root to install into");
            return None;
        }
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-euc", SETUP, "sh"]);
        unshare.arg(dir.path()).arg(packages).stdin(Stdio::piped()).stdout(Stdio::piped());
        die_with_us(&mut unshare);
        let mut holder = unshare.spawn().expect("unshare");
        let mut line = String::new();
        let _ = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line);
        let root = Root { holder, _dir: dir };
        if line != "ready\n" {
            skipped("no mount namespace with an overlay is allowed here");
            return None;
        }
        Some(root)
    }

    /// What the shell says to it, in the root. Panics unless it ends 0.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--target={}", self.holder.id()));
        nsenter.args(["--mount", "--root", "--wd", "sh", "-euc", script]);
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        run_helper(nsenter.env("PATH", path).env("LC_ALL", "C"), "")
    }

    /// Everything that is the administrator's or the data's: names, owners, modes, content.
    #[track_caller]
    pub fn theirs(&self) -> String {
        self.sh("cd /; find etc/rollforward var/lib/rollforward backup -printf '%p %u:%g %m\n' | sort
                 find etc/rollforward var/lib/rollforward backup -type f -exec sha256sum {} + | sort")
    }

    /// Panics if a file of the package is left.
    #[track_caller]
    pub fn no_trace_of_the_program(&self) {
        self.sh("for file in /usr/bin/rollforward /usr/lib/systemd/system/rollforward*\
                 /usr/lib/sysusers.d/rollforward* /usr/share/doc/rollforward; do
                     [ ! -e $file ] || { echo $file; exit 1; }
                 done");
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        end(&mut self.holder);
    }
}
