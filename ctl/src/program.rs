//! The services' own programs, run for what they say without starting: each file has one reader.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use crate::error::Error;

/// Where the services look for their files.
pub(crate) const CONFIG_DIR: &str = "/etc/doorward";
/// A service that needs longer for its own file hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// Where the programs may be.
pub(crate) struct Programs([PathBuf; 3]);

impl Programs {
    /// For the program that runs now.
    pub(crate) fn find() -> Result<Self, Error> {
        let own = std::env::current_exe()
            .map_err(|error| Error::Failed(format!("cannot find the programs: {error}")))?;
        Ok(Self::of(&own))
    }

    /// Beside `own`, and where packages put them.
    pub(crate) fn of(own: &Path) -> Self {
        let beside = own.parent().unwrap_or(Path::new("/"));
        Self([beside.to_owned(), beside.join("../sbin"), beside.join("../libexec/doorward")])
    }

    /// The first of this name.
    ///
    /// # Errors
    /// Where there is none, as a sentence.
    pub(crate) fn path(&self, name: &str) -> Result<PathBuf, String> {
        let mut all = self.0.iter().map(|place| place.join(name));
        all.find(|path| path.is_file()).ok_or_else(|| {
            let places = self.0.each_ref().map(|place| place.display().to_string()).join(", ");
            format!("{name} is in none of {places}")
        })
    }

    /// What the program says to this option and `input`, with its file in the directory; else why it says nothing.
    pub(crate) async fn ask(
        &self,
        (name, file): (&str, &str),
        directory: &Path,
        option: &str,
        input: &[u8],
    ) -> Result<Vec<u8>, String> {
        let mut command = Command::new(self.path(name)?);
        command.arg(option).kill_on_drop(true);
        let path = directory.join(file);
        // Only the standard file may be missing: then every key has its default.
        if directory != Path::new(CONFIG_DIR) || path.exists() {
            command.arg("--config-file").arg(&path);
        }
        command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let asked = async {
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // Who does not read it has something to say all the same. Nothing is written before all was asked.
                let _ = stdin.write_all(input).await;
            }
            child.wait_with_output().await
        };
        let output = match timeout(DEADLINE, asked).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("{name} cannot be run: {error}")),
            Err(_) => return Err(format!("{name} {option} does not end")),
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim();
            return Err(said.strip_prefix(&format!("{name}: ")).unwrap_or(said).to_owned());
        }
        Ok(output.stdout)
    }
}
