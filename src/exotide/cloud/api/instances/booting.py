"""Boots that see to what a failure leaves: nothing of a new instance, a replaced pool member."""

from __future__ import annotations

from exotide.cloud.api.instance_pools.healing import heal, notice_death, pool_of
from exotide.cloud.api.instances.model import Instance
from exotide.cloud.api.instances.power import boot, destroy, power_off, reboot
from exotide.cloud.api.states import InstanceState
from exotide.cloud.api.world import World
from exotide.cloud.ports import CloudFault


async def boot_or_forget(world: World, instance: Instance) -> None:
    """Boot a new instance; one that does not boot is gone."""
    try:
        await boot(world, instance)
    except CloudFault:
        if instance.state is InstanceState.ERROR:
            instance.become(InstanceState.DESTROYING)
            await destroy(world, instance)
        raise


async def boot_or_heal(world: World, instance: Instance) -> None:
    """Boot a known instance; a pool replaces its member that does not boot."""
    try:
        await boot(world, instance)
    except CloudFault:
        pool = pool_of(world, instance)
        if pool is not None:
            heal(world, pool, instance)
        raise


async def reboot_or_die(world: World, instance: Instance) -> None:
    """Restart the programs of an instance; if they do not come back, its server has died."""
    try:
        await reboot(world, instance)
    except CloudFault as error:
        notice_death(world, instance.id, f"reboot failed: {error}")
        raise


async def reinstall(world: World, instance: Instance) -> None:
    """Stop an instance that is stopping and boot it anew, unless it is destroyed meanwhile."""
    await power_off(world, instance)
    if instance.state is InstanceState.STOPPED:
        instance.become(InstanceState.STARTING)
        await boot_or_heal(world, instance)
