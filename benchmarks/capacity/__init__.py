"""A capacity plan: replicas, slots and host memory for many tenants, by a simulation fed with measured costs."""
