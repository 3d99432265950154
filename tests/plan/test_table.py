import dataclasses

from nnunet_arrays import plans_of

from unet_jax.plan.table import table


def test_a_row_for_each_configuration_and_what_somebody_added_last(tmp_path):
    plans = plans_of(tmp_path, "real_iso_mri")
    mine = {"mine": dataclasses.replace(plans.configurations["2d"], batch_size=5)}
    rows = [
        line.split()
        for line in table(dataclasses.replace(plans, configurations=mine | plans.configurations)).splitlines()
    ]
    assert [row[0] for row in rows] == ["configuration", "2d", "3d_fullres", "mine"]
    full = plans.configurations["3d_fullres"]
    assert rows[2][3] == "×".join(map(str, full.patch_size))
    assert rows[2][4:] == [str(full.batch_size), str(len(full.network.features)), f"32…{full.network.features[-1]}"]
    assert rows[3][4] == "5"
