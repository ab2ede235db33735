"""What runs on a developer's machine: obtaining the parts and driving a local cluster."""
