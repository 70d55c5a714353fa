"""What Berth refuses although a loader would take it, and what it says of the rest.

Xen does not refuse a DOM0 kernel: it faults in the guest. Xen starts a PVH-only kernel as PV: it dies. docs/kernels.md
has the list.
"""

from __future__ import annotations

from vps.xen.inspect.elf import EM_386, EM_X86_64
from vps.xen.inspect.identity import Identity
from vps.xen.inspect.libxenguest import PV32, PV32_PAE, not_pvh
from vps.xen.inspect.unwrap import PATHS, Kernel, Unwrapped
from vps.xen.inspect.verdicts import Code, Path, Refusal, Role

# Where the paths differ, the reason of the whole is the first of these that one of them gives.
_RANK = (
    Code.HYPERVISOR,
    Code.DOM0_KERNEL,
    Code.DOM0_ONLY,
    Code.NON_PAE,
    Code.NESTED,
    Code.CUT_SHORT,
    Code.DAMAGED,
    Code.TRAILING_BYTES,
    Code.UNPACKS_TOO_LARGE,
    Code.WHOLE_FILE,
    Code.OLD_PROTOCOL,
    Code.ARCHITECTURE,
    Code.NOTES,
    Code.ADDRESSES,
    Code.HEADERS,
    Code.TWO_FORMS,
    Code.XEN_BINARY,
    Code.NOT_FOR_XEN,
)


def architecture(kernel: Kernel | None) -> str | None:
    if kernel is None:
        return None
    return {EM_386: "x86_32", EM_X86_64: "x86_64"}.get(kernel.elf.machine)


def pae(kernel: Kernel | None) -> bool | None:
    """Of i386 PV kernels: whether they have PAE. Of others it is not said."""
    guest_type = kernel.pv.guest_type if kernel else None
    return {PV32: False, PV32_PAE: True}.get(guest_type or "")


def overrule(found: Unwrapped, who: Identity) -> dict[Path, Refusal | None]:
    """Refusals that stand above the loaders' own verdicts, for the file and for its plain ELF."""
    if found.hypervisor or who.hypervisor:
        return dict.fromkeys(PATHS, _hypervisor())
    if found.kernel is None:
        return {}
    if who.role is Role.DOM0:
        return dict.fromkeys(PATHS, _dom0(found.kernel, who))
    if found.kernel.pvh_only:
        return dict.fromkeys((Path.PVGRUB, Path.DIRECT_PV), _pvh_only())
    if found.kernel.pv.guest_type == PV32:
        return dict.fromkeys((Path.PVGRUB, Path.DIRECT_PV), _non_pae(who))
    if architecture(found.kernel) and not _speaks(found.kernel):
        return dict.fromkeys(PATHS, _not_for_xen(found.kernel, who))
    if found.kernel.pv.refusal is None and found.kernel.pvh.refusal is not None:
        # What libxenguest says of a kernel with the string alone is that it is not for Xen at all.
        return {Path.DIRECT_PVH: not_pvh()}
    return {}


def _speaks(kernel: Kernel) -> bool:
    """Whether the kernel says anything to Xen, or is too broken to tell."""
    codes = {refusal and refusal.code for refusal in kernel.refusals.values()}
    return codes != {Code.NOT_FOR_XEN}


def reason(refusals: dict[Path, Refusal | None]) -> Refusal | None:
    """Why nothing can boot it, in one sentence; None when a path can."""
    given = [refusal for refusal in refusals.values() if refusal is not None]
    if len(given) < len(refusals):
        return None
    for code in _RANK:
        for refusal in given:
            if refusal.code is code:
                return refusal
    return refusals[Path.DIRECT_PV] or given[0]


def _hypervisor() -> Refusal:
    return Refusal(
        Code.HYPERVISOR,
        "This is the Xen hypervisor itself, which runs on the host and not in a server: upload the kernel of your "
        "operating system, built as a Xen guest.",
    )


def _dom0(kernel: Kernel, who: Identity) -> Refusal:
    name = who.configuration or "DOM0"
    release = f" {who.release}" if who.release else ""
    wanted = "XEN3PAE_DOMU" if kernel.elf.machine == EM_386 else "XEN3_DOMU"
    return Refusal(
        Code.DOM0_KERNEL,
        f"This is a {who.guest_os}{release} kernel for dom0, the host's own system ({name}), and does not run in a "
        f"server: use {wanted} of the same release.",
    )


def _non_pae(who: Identity) -> Refusal:
    name = " ".join(part for part in (who.guest_os, who.release, who.configuration) if part)
    return Refusal(
        Code.NON_PAE,
        f"This i386 kernel{f' ({name})' if name else ''} is built without PAE, and an i386 guest must have it unless "
        "Xen 3.1 runs in i386 mode: use XEN3PAE_DOMU, or an amd64 kernel.",
    )


def _pvh_only() -> Refusal:
    return Refusal(
        Code.PVH_ONLY,
        "The kernel has a PVH entry and no PV entry (it is PVH only), so it cannot start as PV, nor through the "
        "loaders for PV: start it as PVH.",
    )


def _not_for_xen(kernel: Kernel, who: Identity) -> Refusal:
    arch = "amd64" if kernel.elf.machine == EM_X86_64 else "i386"
    name = " ".join(part for part in (who.guest_os, who.release, who.configuration) if part)
    cure = {
        "Linux": "use one with CONFIG_XEN_PV (amd64) or CONFIG_XEN_PVH, as Debian's amd64 and 686-pae kernels are",
        "NetBSD": "use XEN3_DOMU (amd64) or XEN3PAE_DOMU (i386)",
    }.get(who.guest_os or "", "use a kernel built as a Xen guest")
    return Refusal(
        Code.NOT_FOR_XEN,
        f"This {arch} kernel{f' ({name})' if name else ''} is not built for Xen (it has no Xen notes): {cure}.",
    )
