//! `tfo detach`.

use tfo_userspace::{
    datapath::{self, Namespace},
    kernel::link,
};

use super::output::print;

pub(super) async fn run(interfaces: &[String]) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    for name in interfaces {
        let interface = link::find(name).await?;
        datapath::detach(&namespace, interface.index, name)?;
        print(&format!("{name}: detached\n"))?;
    }
    Ok(())
}

pub(super) async fn all() -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let interfaces = namespace.interfaces().await?;
    let nothing = interfaces.is_empty();
    for interface in interfaces {
        let name = interface.label();
        datapath::detach(&namespace, interface.index, &name)?;
        print(&format!("{name}: detached\n"))?;
    }
    let others = datapath::detach_gone(&namespace)?;
    for index in &others {
        print(&format!(
            "interface {index}: detached, of another layout version\n"
        ))?;
    }
    if nothing && others.is_empty() {
        print("nothing was attached here\n")?;
    }
    Ok(())
}
