package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// provisioner names our maker of volumes: folders of the cluster's own.
const provisioner = "devcluster.portolan.dev/folder"

// What the volume controller and a provisioner tell each other by annotation.
const (
	claimProvisioner  = "volume.kubernetes.io/storage-provisioner"
	volumeProvisioner = "pv.kubernetes.io/provisioned-by"
)

// reconcileVolumes makes a volume for each claim that is ours to serve, and
// removes those released.
func (k *controllers) reconcileVolumes(ctx context.Context) error {
	claims, err := k.claims.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, claim := range claims {
		if claim.Annotations[claimProvisioner] != provisioner || claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil {
			continue
		}
		if _, err := k.volumes.Get(volumeName(claim)); err == nil {
			continue
		}
		if err := k.provision(ctx, claim); err != nil && !overtaken(err) {
			return fmt.Errorf("volume for %s/%s: %w", claim.Namespace, claim.Name, err)
		}
	}
	volumes, err := k.volumes.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, volume := range volumes {
		if volume.Annotations[volumeProvisioner] != provisioner || volume.Status.Phase != corev1.VolumeReleased ||
			volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete || volume.DeletionTimestamp != nil {
			continue
		}
		if err := k.discard(ctx, volume); err != nil && !overtaken(err) {
			return fmt.Errorf("removing volume %s: %w", volume.Name, err)
		}
	}
	return nil
}

func volumeName(claim *corev1.PersistentVolumeClaim) string { return "pvc-" + string(claim.UID) }

func (k *controllers) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	folder := k.cluster.path("volumes", volumeName(claim))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	// Any user in a pod may write, whatever our umask.
	if err := os.Chmod(folder, 0o777); err != nil {
		return err
	}
	modes := slices.Clone(claim.Spec.AccessModes)
	reclaim := corev1.PersistentVolumeReclaimDelete
	var class string
	if claim.Spec.StorageClassName != nil {
		class = *claim.Spec.StorageClassName
		if object, err := k.client.StorageV1().StorageClasses().Get(ctx, class, metav1.GetOptions{}); err == nil && object.ReclaimPolicy != nil {
			reclaim = *object.ReclaimPolicy
		}
	}
	directory := corev1.HostPathDirectory
	_, err := k.client.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        volumeName(claim),
			Annotations: map[string]string{volumeProvisioner: provisioner},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   modes,
			PersistentVolumeReclaimPolicy: reclaim,
			StorageClassName:              class,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: folder, Type: &directory},
			},
		},
	}, metav1.CreateOptions{})
	return err
}

func (k *controllers) discard(ctx context.Context, volume *corev1.PersistentVolume) error {
	if err := k.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return os.RemoveAll(k.cluster.path("volumes", filepath.Base(volume.Name)))
}
