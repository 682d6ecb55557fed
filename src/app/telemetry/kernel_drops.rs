//! Tells the user that the kernel drops datagrams.

use crate::{
    app::terminal::messages::Messages,
    net::io::{NetStats, RECEIVE_BUFFER_WANTED},
};

/// Reports datagrams that the kernel dropped for want of buffer space, once, with the remedy.
#[derive(Debug, Default)]
pub(crate) struct KernelDropNotice {
    told: bool,
}

impl KernelDropNotice {
    pub(crate) fn update(&mut self, stats: &NetStats, messages: &Messages) {
        let overruns = stats.kernel_drops.map(|drops| drops.overruns);
        let (Some(drops @ 1..), Some(buffers), false) = (overruns, stats.buffers, self.told) else {
            return;
        };
        self.told = true;
        let remedy = if buffers.receive < RECEIVE_BUFFER_WANTED {
            format!("sudo sysctl -w net.core.rmem_max={RECEIVE_BUFFER_WANTED}")
        } else {
            "this machine is too slow for the stream: lower its size or rate".into()
        };
        messages.info(&format!(
            "the kernel has dropped {drops} datagrams, since its buffer of {} KB was full: {remedy}",
            buffers.receive >> 10,
        ));
    }
}
