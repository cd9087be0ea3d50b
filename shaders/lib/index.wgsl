// The linear index of a thread. Dispatches are folded into two dimensions where one would exceed the device's limit
// of workgroups per dimension, so the index spans x and y.

// Workgroup size along x; every kernel uses this one number.
override WORKGROUP: u32 = 64u;

fn linear_index(global: vec3<u32>, groups: vec3<u32>) -> u32 {
    return global.x + global.y * groups.x * WORKGROUP;
}
