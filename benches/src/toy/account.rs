//! PAM in the process that asks: a name and a password on a line, one word back.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

use pam_client::{Context, Flag, conv_mock::Conversation};
use tokio::net::TcpListener;

use super::Options;

pub(super) async fn serve(options: Options) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    super::ready(&listener.local_addr()?.to_string());
    loop {
        let (stream, _) = listener.accept().await?;
        let (stream, service) = (stream.into_std()?, options.service.clone());
        stream.set_nonblocking(false)?;
        // PAM blocks; a thread for each who asks is the least that can be done about it.
        std::thread::spawn(move || talk(stream, &service));
    }
}

fn talk(mut stream: TcpStream, service: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        let (user, password) = line.split_once('\t').ok_or(io::ErrorKind::InvalidData)?;
        let answer = match check(service, user, password) {
            Ok(()) => "yes\n".to_owned(),
            Err(error) => format!("{error}\n"),
        };
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// The calls of the worker.
fn check(service: &str, user: &str, password: &str) -> io::Result<()> {
    let conversation = Conversation::with_credentials(user, password);
    let mut context = Context::new(service, Some(user), conversation)?;
    context.authenticate(Flag::DISALLOW_NULL_AUTHTOK)?;
    Ok(context.acct_mgmt(Flag::DISALLOW_NULL_AUTHTOK)?)
}
